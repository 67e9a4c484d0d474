"""Temperature scaling (Guo et al. 2017, 1706.04599, section 4.2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import softmax

RANGE = (1 / 20, 20.0)


def scaled(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """softmax(z / T), (N, K), of logits or of log probabilities (N, K)."""
    result: NDArray[np.float64] = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return result


def fitted_temperature(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The T of 1/20 to 20 at which the mean confidence, the largest probability, is the share of correct predictions.

    logits: (N, K). labels: (N,). weights: (N,) of the images, all 1 by default. Expectation consistency (Clarté et al.
    2023, 2303.02644). With h of N correct the share is (h + 1/2) / (N + 1), so that what was never wrong is not certain
    (reading). Mean confidence falls in T: there is one such T, or else the nearest end of the range. Raises ValueError
    without any image.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    if not len(y):
        raise ValueError("labels: none; allowed: one or more")
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    share = (w @ (z.argmax(axis=1) == y) + 0.5) / (w.sum() + 1)

    def excess(log_temperature: float) -> float:
        return float(np.average(scaled(z, math.exp(log_temperature)).max(axis=1), weights=w) - share)

    least, most = map(math.log, RANGE)
    if excess(least) <= 0:
        return RANGE[0]
    if excess(most) >= 0:
        return RANGE[1]
    return math.exp(float(brentq(excess, least, most, xtol=1e-12)))


def at_more_images(temperature: float, share: float) -> float:
    """The temperature of a network that was trained on all images, from that of networks that were trained on a `share`
    of them: T ** share.

    What makes a network too sure is overfitting, whose optimism falls as 1 / images (Akaike 1974); log T is taken to
    fall alike (reading; true of logistic regression).
    """
    return temperature**share
