"""Rank correlations with bootstrap intervals over architectures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 2000
CONFIDENCE = 0.95

Statistic = Callable[[NDArray[np.float64]], float]
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


def kendall(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Kendall's tau-b; NaN where one side is constant."""
    return float(stats.kendalltau(first, second).statistic)


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's rho; NaN where one side is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


CORRELATIONS = {"kendall": kendall, "spearman": spearman}


def correlation(kind: str, first: Sequence[float], second: Sequence[float], seed: int = 0) -> Estimate:
    """Rank correlation (`kendall` or `spearman`) of two scores of the same architectures, with its interval."""
    rows = np.column_stack([first, second]).astype(np.float64)
    return bootstrap(rows, lambda drawn: CORRELATIONS[kind](drawn[:, 0], drawn[:, 1]), seed)


def gain(kind: str, better: Sequence[float], worse: Sequence[float], truth: Sequence[float], seed: int = 0) -> Estimate:
    """Correlation of `better` with `truth` minus that of `worse`, over the same draws of architectures."""
    rows = np.column_stack([better, worse, truth]).astype(np.float64)

    def difference(drawn: NDArray[np.float64]) -> float:
        return CORRELATIONS[kind](drawn[:, 0], drawn[:, 2]) - CORRELATIONS[kind](drawn[:, 1], drawn[:, 2])

    return bootstrap(rows, difference, seed)


def bootstrap(rows: NDArray[np.float64], statistic: Statistic, seed: int) -> Estimate:
    """The statistic of `rows` (N, columns), and its interval over draws of N rows with replacement.

    Draws for which it is not defined (a constant column) are left out.
    """
    generator = np.random.default_rng(seed)
    draws = [statistic(rows[generator.integers(0, len(rows), len(rows))]) for _ in range(DRAWS)]
    tail = (1 - CONFIDENCE) / 2
    known = [value for value in draws if np.isfinite(value)]
    low, high = np.quantile(known, (tail, 1 - tail)) if known else (float("nan"), float("nan"))
    return Estimate(statistic(rows), float(low), float(high), len(rows))
