"""Recall of a class against its images: a curve for all classes of a study, fitted to counts, with intervals.

The error falls as a power of the class's own images, the power law of learning curves (Hestness et al. 2017,
1712.00409), changes as a power of all others', and bends where it nears 1, which it cannot exceed:

    x = A_c * n_c^-b_c * N^d,    e = x / (1 + x^4)^(1/4)      n_c images of class c, N of all other classes

A class alone has too few points, above all a rare one: the exponents b_c lie around a common one, as normal
values of standard deviation SLOPE_SD do (a reading). What a class's own points leave open of its exponent is in the
interval, which therefore widens as it leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

PRIOR_SD = 3.0
"""Standard deviation of a class's log A_c around the mean of the classes: weak, but it keeps a class without an error
(or without a hit) finite.
"""
SLOPE_SD = 0.3
"""Standard deviation of a class's exponent around that of all."""
COMMON_SD = 2.0
"""Of the common exponent and of d around 0."""
CONFIDENCE = 0.95
ROUNDS = 100


def error_of(logarithm: ArrayLike) -> NDArray[np.float64]:
    """e for log x: its derivative is e (1 - e^4)."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -4 * np.asarray(logarithm, float)) / 4))


@dataclass(frozen=True)
class Expectation:
    """A recall and the ends of its 95 % interval."""

    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Fitted coefficients (K log x where the class's own points lie, K exponents -b_c, d), their covariance, its
    degrees of freedom, and the logarithms of images (K,) that the first K belong to.
    """

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    freedom: float
    centres: NDArray[np.float64]

    @property
    def exponent(self) -> float:
        """b, the mean over classes: with twice its images the error of a class is divided by 2^b, while it is small."""
        classes = len(self.centres)
        return -float(self.coefficients[classes : 2 * classes].mean())

    def expected(self, label: int, images: float, others: float) -> Expectation:
        """Recall of class `label` with `images` training images of its own and `others` of all other classes.

        The interval holds what the points leave open of the expected recall, not the luck of one more training.
        """
        row = _design(self.centres, [label], [images], [others])[0]
        middle, sd = float(row @ self.coefficients), float(np.sqrt(row @ self.covariance @ row))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * sd
        recall, low, high = (1 - error_of(middle + step) for step in (0.0, half, -half))
        return Expectation(float(recall), float(low), float(high))


def fit_curve(
    labels: Sequence[int], images: ArrayLike, others: ArrayLike, hits: ArrayLike, tested: ArrayLike, classes: int
) -> Curve:
    """Fit to points: class, its training images, those of all others, hits among `tested` test images of the class.

    Binomial regression by Fisher scoring with normal priors. The covariance is widened by Pearson's statistic where
    points vary more than test images alone explain: trainings differ (McCullagh and Nelder 1989, 4.5).

    Raises ValueError for a class without a point, or too few points for a curve.
    """
    own = np.asarray(labels, int)
    points = np.bincount(own, minlength=classes)
    if points.min() == 0 or len(own) <= classes + 2:
        raise ValueError(f"{len(own)} points for {classes} classes")
    centres: NDArray[np.float64] = np.bincount(own, np.log(np.asarray(images, float)), minlength=classes) / points
    design, penalty = _design(centres, own, images, others), _penalty(classes)
    wrong, total = np.asarray(tested, float) - np.asarray(hits, float), np.asarray(tested, float)
    coefficients: NDArray[np.float64] = np.zeros(design.shape[1])
    coefficients[:classes] = np.log((wrong.sum() + 1) / (total.sum() + 2))
    for _ in range(ROUNDS):
        error = error_of(design @ coefficients)
        ratio = 1 + error + error**2 + error**3  # (1 - e^4) / (1 - e)
        fisher = design.T @ ((total * error * (1 - error**4) * ratio)[:, None] * design)
        score = design.T @ (ratio * (wrong - total * error)) - penalty @ coefficients
        step = np.linalg.solve(fisher + penalty, score)
        coefficients += step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    covariance = np.linalg.inv(fisher + penalty)
    error = error_of(design @ coefficients)
    variance = np.maximum(total * error * (1 - error), 1e-3)
    freedom = max(1.0, len(own) - float(np.trace(covariance @ fisher)))
    dispersion = max(1.0, float(((wrong - total * error) ** 2 / variance).sum()) / freedom)
    if dispersion > 1:
        covariance = np.linalg.inv(fisher / dispersion + penalty)
    return Curve(coefficients, np.asarray(covariance, np.float64), freedom, centres)


def _design(
    centres: NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64], images: ArrayLike, others: ArrayLike
) -> NDArray[np.float64]:
    """(points, 2 K + 1): an indicator of the class, the same times log of its images, log of the others'."""
    own = np.asarray(labels, int)
    indicator = np.eye(len(centres))[own]
    distance = np.log(np.asarray(images, float)) - centres[own]
    return np.concatenate(
        [indicator, indicator * distance[:, None], np.log(np.asarray(others, float))[:, None]], axis=1
    )


def _penalty(classes: int) -> NDArray[np.float64]:
    """Of the intercepts and of the exponents around their means, of the mean exponent and of d around 0."""
    around, mean = np.eye(classes) - 1 / classes, np.full((classes, classes), 1 / classes)
    penalty = np.zeros((2 * classes + 1, 2 * classes + 1))
    penalty[:classes, :classes] = around / PRIOR_SD**2
    penalty[classes:-1, classes:-1] = around / SLOPE_SD**2 + mean / (classes * COMMON_SD**2)
    penalty[-1, -1] = 1 / COMMON_SD**2
    return penalty
