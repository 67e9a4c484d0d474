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
Statistic = Callable[[NDArray[np.intp]], float]
"""A number of the architectures that a bootstrap draw holds, given their positions."""


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
    ranks = (stats.rankdata(scores) for scores in (first, second))
    one, other = (np.sign(np.subtract.outer(ranked, ranked)) for ranked in ranks)
    return _cosine(one.ravel(), other.ravel())


def spearman(first: Scores, second: Scores) -> float:
    """Spearman's rho; NaN where one side is constant."""
    one, other = (stats.rankdata(scores) - (len(scores) + 1) / 2 for scores in (first, second))
    return _cosine(one, other)


def _cosine(first: Scores, second: Scores) -> float:
    lengths = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / lengths if lengths else float("nan")


CORRELATIONS = {"kendall": kendall, "spearman": spearman}


def correlation(kind: str, scores: ArrayLike, truth: ArrayLike) -> Estimate:
    """Rank correlation (`kendall` or `spearman`) of scores with the truth (N,) about the same architectures.

    scores: (N,), or (S, N) for S scorers: then the mean of each one's correlation, what one of them is worth.
    """
    scored, true = np.atleast_2d(scores), np.asarray(truth)
    return bootstrap(len(true), lambda drawn: _mean(kind, scored[:, drawn], true[drawn]))


def gain(kind: str, better: ArrayLike, worse: ArrayLike, truth: ArrayLike) -> Estimate:
    """Correlation of `better` with `truth` minus that of `worse`, over the same draws of architectures."""
    one, other, true = np.atleast_2d(better), np.atleast_2d(worse), np.asarray(truth)
    return bootstrap(
        len(true), lambda drawn: _mean(kind, one[:, drawn], true[drawn]) - _mean(kind, other[:, drawn], true[drawn])
    )


def agreement(kind: str, scores: ArrayLike) -> Estimate:
    """Mean correlation of any two of S scores (S, N): the noise ceiling, where they differ by their seed alone."""
    scored = np.asarray(scores)
    return bootstrap(scored.shape[1], lambda drawn: _pairs(kind, scored[:, drawn]))


def agreement_gain(kind: str, better: ArrayLike, worse: ArrayLike) -> Estimate:
    """Agreement of `better` (S, N) minus that of `worse` (S, N), over the same draws of architectures."""
    one, other = np.asarray(better), np.asarray(worse)
    return bootstrap(one.shape[1], lambda drawn: _pairs(kind, one[:, drawn]) - _pairs(kind, other[:, drawn]))


def _mean(kind: str, scores: Scores, truth: Scores) -> float:
    """Mean over the rows of `scores` (S, N)."""
    return float(np.mean([CORRELATIONS[kind](row, truth) for row in scores]))


def _pairs(kind: str, scores: Scores) -> float:
    """Mean over the pairs of rows of `scores` (S, N)."""
    return float(np.mean([CORRELATIONS[kind](*pair) for pair in combinations(scores, 2)]))


def bootstrap(count: int, statistic: Statistic) -> Estimate:
    """The statistic of `count` architectures, and its interval over draws of as many with replacement.

    Draws for which it is not defined (a constant score) are left out.
    """
    generator = np.random.default_rng(0)
    draws = [statistic(generator.integers(0, count, count)) for _ in range(DRAWS)]
    tail = (1 - CONFIDENCE) / 2
    known = [value for value in draws if np.isfinite(value)]
    low, high = np.quantile(known, (tail, 1 - tail)) if known else (float("nan"), float("nan"))
    return Estimate(statistic(np.arange(count)), float(low), float(high), count)
