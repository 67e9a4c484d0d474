"""Recall of a class against its images: a curve for all classes of a study, fitted to counts, with intervals.

The odds of an error fall as a power of the class's own images and change as a power of all others':

    e / (1 - e) = A_c * n_c^-b * N^d,      n_c images of class c, N of all other classes

For small errors that is the power law of learning curves (Hestness et al. 2017, 1712.00409), and it cannot leave
[0, 1]. That the classes share b and d is a reading: a class alone has too few points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit, logit

PRIOR_SD = 3.0
"""Standard deviation of a class's log A_c around the mean of the classes: weak, but it keeps a class without an error
(or without a hit) finite.
"""
EXPONENT_SD = 2.0
"""The same of b and d around 0."""
CONFIDENCE = 0.95
ROUNDS = 100


@dataclass(frozen=True)
class Expectation:
    """A recall and the ends of its 95 % interval."""

    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Fitted coefficients (K log A_c, -b, d), their covariance, and its degrees of freedom."""

    classes: int
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    freedom: int

    @property
    def exponent(self) -> float:
        """b: with twice its images the odds of an error of a class are divided by 2^b."""
        return -float(self.coefficients[self.classes])

    def expected(self, label: int, images: float, others: float) -> Expectation:
        """Recall of class `label` with `images` training images of its own and `others` of all other classes.

        The interval holds what the counts leave open of the expected recall, not the luck of one more training.
        """
        row = _design(self.classes, [label], [images], [others])[0]
        middle, sd = float(row @ self.coefficients), float(np.sqrt(row @ self.covariance @ row))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * sd
        recall, low, high = (1 - expit(middle + step) for step in (0.0, half, -half))
        return Expectation(float(recall), float(low), float(high))


def fit_curve(
    labels: Sequence[int], images: ArrayLike, others: ArrayLike, hits: ArrayLike, tested: ArrayLike, classes: int
) -> Curve:
    """Fit to points: class, its training images, those of all others, hits among `tested` test images of the class.

    Binomial regression by Fisher scoring with weak normal priors. The covariance is widened by Pearson's statistic
    where points vary more than test images alone explain: trainings differ (McCullagh and Nelder 1989, 4.5).

    Raises ValueError for fewer points than coefficients, or where the images of no class vary.
    """
    design = _design(classes, labels, images, others)
    wrong, total = np.asarray(tested, float) - np.asarray(hits, float), np.asarray(tested, float)
    freedom = len(design) - design.shape[1]
    if freedom < 1 or len(set(np.asarray(images).tolist())) < 2:
        raise ValueError(f"{len(design)} points for {design.shape[1]} coefficients")
    penalty = _penalty(classes)
    coefficients = np.zeros(design.shape[1])
    coefficients[:classes] = logit((wrong.sum() + 1) / (total.sum() + 2))
    for _ in range(ROUNDS):
        error = expit(design @ coefficients)
        weight = total * error * (1 - error)
        information = design.T @ (weight[:, None] * design) + penalty
        score = design.T @ (wrong - total * error) - penalty @ coefficients
        step = np.linalg.solve(information, score)
        coefficients += step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    error = expit(design @ coefficients)
    variance = np.maximum(total * error * (1 - error), 1e-3)
    dispersion = max(1.0, float(((wrong - total * error) ** 2 / variance).sum()) / freedom)
    return Curve(classes, coefficients, dispersion * np.linalg.inv(information), freedom)


def _design(classes: int, labels: Sequence[int], images: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """(points, K + 2): an indicator of the class, log of its images, log of the others'."""
    columns = [np.eye(classes)[np.asarray(labels, int)]]
    columns += [np.log(np.asarray(values, float))[:, None] for values in (images, others)]
    return np.concatenate(columns, axis=1)


def _penalty(classes: int) -> NDArray[np.float64]:
    """Of the intercepts' spread around their mean, and of the two exponents."""
    penalty = np.zeros((classes + 2, classes + 2))
    penalty[:classes, :classes] = (np.eye(classes) - 1 / classes) / PRIOR_SD**2
    penalty[classes:, classes:] = np.eye(2) / EXPONENT_SD**2
    return penalty
