"""Temperature scaling (Guo et al. 2017, 1706.04599, section 4.2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

RANGE = (1 / 20, 20.0)


def scaled(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """softmax(z / T), (N, K), of logits or of log probabilities (N, K)."""
    result: NDArray[np.float64] = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return result


def fitted_temperature(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The T of 1/20 to 20 at which the log loss of softmax(z / T) is least.

    logits: (N, K). labels: (N,). weights: (N,) of the images, all 1 by default. The loss is convex in 1/T, so there is
    one minimum. Raises ValueError without any image.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if not len(y):
        raise ValueError("labels: none; allowed: one or more")
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)

    def loss(log_inverse: float) -> float:
        picked = log_softmax(math.exp(log_inverse) * z, axis=1)[np.arange(len(y)), y]
        return -float(w @ picked) / float(w.sum())

    least, most = (-math.log(value) for value in reversed(RANGE))
    return math.exp(-float(minimize_scalar(loss, bounds=(least, most), method="bounded", options={"xatol": 1e-9}).x))


def at_more_images(temperature: float, share: float) -> float:
    """The temperature of a network that was trained on all images, from that of networks that were trained on a `share`
    of them: T ** share.

    What makes a network too sure is overfitting, whose optimism falls as 1 / images (Akaike 1974); log T is taken to
    fall alike (reading; true of logistic regression).
    """
    return temperature**share
