"""How exactly a recall is known: score intervals from the number of test images (method 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

QUANTILE = 1.959963984540054
"""Of the standard normal distribution at 0.975: intervals of 95 %."""

TOO_WIDE = 0.4
"""Width of an interval from which on a share cannot be told."""


def wilson(right: ArrayLike, images: ArrayLike) -> NDArray[np.float64]:
    """float64 (2, K): ends of Wilson's 95 % score interval of `right` of `images`, (K,) each; 0 and 1 for no image.

    The shares q with |right / n - q| <= z sqrt(q (1 - q) / n) (Wilson, 1927). `right` may be a mean of counts.
    """
    counts = np.asarray(images, np.float64)
    n = np.maximum(counts, 1)
    share, square = np.asarray(right, np.float64) / n, QUANTILE**2 / n
    centre = (share + square / 2) / (1 + square)
    half = np.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    ends = np.stack([centre - half, centre + half]).clip(0, 1)
    return np.where(counts > 0, ends, np.array([0.0, 1.0]).reshape(2, *[1] * counts.ndim))


def mean_recall_interval(right: ArrayLike, images: ArrayLike) -> tuple[float, float]:
    """Ends of a 95 % interval of the mean recall of K classes, `right` of `images`, (K,) each; NaN where none has any.

    Wilson's interval of each class, distances to the mean combined as independent ones (Zou, Huang and Zhang, 2009):
    mean - sqrt(sum (recall - low)^2) / K and mean + sqrt(sum (high - recall)^2) / K. Of one class it is Wilson's.
    """
    counts = np.asarray(images, np.float64)
    known = counts > 0
    if not known.any():
        return float("nan"), float("nan")
    recall = np.asarray(right, np.float64)[known] / counts[known]
    low, high = wilson(np.asarray(right)[known], counts[known])
    mean, classes = float(recall.mean()), len(recall)
    return (
        max(0.0, mean - float(np.sqrt(((recall - low) ** 2).sum())) / classes),
        min(1.0, mean + float(np.sqrt(((high - recall) ** 2).sum())) / classes),
    )
