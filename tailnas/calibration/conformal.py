"""Sets of classes that hold the true one with a chosen probability, class by class (Vovk 2012; 1609.00451)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def least_images(miss: float) -> int:
    """Images of a class without which no set can promise to hold it with probability 1 - miss: ceil(1 / miss) - 1."""
    return math.ceil(round(1 / miss, 9)) - 1


def class_thresholds(probabilities: ArrayLike, labels: ArrayLike, miss: float) -> NDArray[np.float64]:
    """(K,) the least probability at which a class belongs to the set, 0 where it always does.

    probabilities: (N, K) of images that the model was not trained on. labels: (N,). Of each class with n images, the
    floor((n + 1) miss)-th smallest probability that they gave it: a new image of that class then has a set without its
    class with probability `miss` at most. A class with fewer than `least_images` gets 0, since nothing can be promised
    otherwise. Raises ValueError for a `miss` that is not between 0 and 1.
    """
    if not 0 < miss < 1:
        raise ValueError(f"miss: {miss}; allowed: between 0 and 1")
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    thresholds = np.zeros(p.shape[1])
    for c in range(p.shape[1]):
        own = np.sort(p[y == c, c])
        rank = math.floor(round((len(own) + 1) * miss, 9))
        if rank >= 1:
            thresholds[c] = own[rank - 1]
    return thresholds


def prediction_sets(probabilities: ArrayLike, thresholds: ArrayLike) -> NDArray[np.bool_]:
    """(N, K) whether each class belongs to an image's set; a set may be empty: an image unlike all classes."""
    return np.asarray(probabilities, np.float64) >= np.asarray(thresholds, np.float64)
