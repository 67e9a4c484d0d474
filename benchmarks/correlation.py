"""Rank correlations with bootstrap intervals over architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

DRAWS = 2000
CONFIDENCE = 0.95

Scores = NDArray[np.float64]
Statistic = Callable[[Scores], float]
"""A number of the rows that a bootstrap draw holds."""


@dataclass(frozen=True)
class Estimate:
    """A statistic of `n` architectures and the ends of its percentile bootstrap interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def kendall(first: Scores, second: Scores) -> float:
    """Kendall's tau-b; NaN where one side is constant."""
    return float(stats.kendalltau(first, second).statistic)


def spearman(first: Scores, second: Scores) -> float:
    """Spearman's rho; NaN where one side is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


CORRELATIONS = {"kendall": kendall, "spearman": spearman}


def correlation(kind: str, scores: ArrayLike, truth: ArrayLike, seed: int = 0) -> Estimate:
    """Rank correlation (`kendall` or `spearman`) of scores with the truth (N,) about the same architectures.

    scores: (N,), or (S, N) for S scorers: then the mean of each one's correlation, what one of them is worth.
    """
    rows = np.vstack([scores, truth]).T
    return bootstrap(rows, lambda drawn: _mean(kind, drawn[:, :-1], drawn[:, -1]), seed)


def gain(kind: str, better: ArrayLike, worse: ArrayLike, truth: ArrayLike, seed: int = 0) -> Estimate:
    """Correlation of `better` with `truth` minus that of `worse`, over the same draws of architectures."""
    rows = np.vstack([better, worse, truth]).T
    split = len(np.atleast_2d(better))

    def difference(drawn: Scores) -> float:
        return _mean(kind, drawn[:, :split], drawn[:, -1]) - _mean(kind, drawn[:, split:-1], drawn[:, -1])

    return bootstrap(rows, difference, seed)


def agreement(kind: str, scores: ArrayLike, seed: int = 0) -> Estimate:
    """Mean correlation of any two of S scores (S, N): the noise ceiling, where they differ by their seed alone."""
    return bootstrap(np.asarray(scores, np.float64).T, lambda drawn: _pairs(kind, drawn), seed)


def agreement_gain(kind: str, better: ArrayLike, worse: ArrayLike, seed: int = 0) -> Estimate:
    """Agreement of `better` (S, N) minus that of `worse` (S, N), over the same draws of architectures."""
    rows = np.vstack([better, worse]).T
    split = len(np.atleast_2d(better))
    return bootstrap(rows, lambda drawn: _pairs(kind, drawn[:, :split]) - _pairs(kind, drawn[:, split:]), seed)


def _pairs(kind: str, scores: Scores) -> float:
    """Mean over the pairs of columns of `scores` (N, S)."""
    return float(np.mean([CORRELATIONS[kind](*pair) for pair in combinations(scores.T, 2)]))


def _mean(kind: str, scores: Scores, truth: Scores) -> float:
    """Mean over the columns of `scores` (N, S)."""
    return float(np.mean([CORRELATIONS[kind](column, truth) for column in scores.T]))


def bootstrap(rows: Scores, statistic: Statistic, seed: int) -> Estimate:
    """The statistic of `rows` (N, columns), and its interval over draws of N rows with replacement.

    Draws for which it is not defined (a constant column) are left out.
    """
    generator = np.random.default_rng(seed)
    draws = [statistic(rows[generator.integers(0, len(rows), len(rows))]) for _ in range(DRAWS)]
    tail = (1 - CONFIDENCE) / 2
    known = [value for value in draws if np.isfinite(value)]
    low, high = np.quantile(known, (tail, 1 - tail)) if known else (float("nan"), float("nan"))
    return Estimate(statistic(rows), float(low), float(high), len(rows))
