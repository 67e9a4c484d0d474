"""Rank correlations with bootstrap intervals over architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, stats

DRAWS = 2000
CONFIDENCE = 0.95

Scores = NDArray[np.float64]
Draws = NDArray[np.float64]
"""How often each architecture is in each bootstrap draw (draws, N)."""
Statistic = Callable[[Draws], NDArray[np.float64]]
"""A number for each draw."""


@dataclass(frozen=True)
class Estimate:
    """A statistic of `n` architectures and the ends of its percentile bootstrap interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+z.2f} [{self.low:+z.2f}, {self.high:+z.2f}]"


def kendall(first: Scores, second: Scores, draws: Draws) -> NDArray[np.float64]:
    """Kendall's tau-b in each draw; NaN where one side is constant."""
    ranks = (stats.rankdata(scores) for scores in (first, second))
    one, other = (np.sign(np.subtract.outer(ranked, ranked)) for ranked in ranks)

    def over_pairs(agree: Scores) -> NDArray[np.float64]:
        return ((draws @ agree) * draws).sum(1)

    return _cosine(over_pairs(one * other), over_pairs(one * one), over_pairs(other * other))


def spearman(first: Scores, second: Scores, draws: Draws) -> NDArray[np.float64]:
    """Spearman's rho in each draw; NaN where one side is constant."""
    sides = [np.asarray(scores) for scores in (first, second)]
    below = [(side < side[:, None]) + (side == side[:, None]) / 2 for side in sides]
    one, other = (draws @ each.T - len(first) / 2 for each in below)
    return _cosine(*((draws * a * b).sum(1) for a, b in ((one, other), (one, one), (other, other))))


def _cosine(both: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products over lengths, from the three inner products of two vectors."""
    squared = one * other
    return np.divide(both, np.sqrt(squared), out=np.full_like(both, np.nan), where=squared > 0)


CORRELATIONS = {"kendall": kendall, "spearman": spearman}


def correlation(kind: str, scores: ArrayLike, truth: ArrayLike) -> Estimate:
    """Rank correlation (`kendall` or `spearman`) of scores with the truth (N,) about the same architectures.

    scores: (N,), or (S, N) for S scorers: then the mean of each one's correlation, what one of them is worth.
    """
    return _estimate(kind, _with(scores, truth))


def gain(kind: str, better: ArrayLike, worse: ArrayLike, truth: ArrayLike) -> Estimate:
    """Correlation of `better` with `truth` minus that of `worse`, over the same draws of architectures."""
    return _estimate(kind, _with(better, truth), less=_with(worse, truth))


def agreement(kind: str, scores: ArrayLike) -> Estimate:
    """Mean correlation of any two of S scores (S, N): the noise ceiling, where they differ by their seed alone."""
    return _estimate(kind, _any_two(scores))


def agreement_gain(kind: str, better: ArrayLike, worse: ArrayLike) -> Estimate:
    """Agreement of `better` (S, N) minus that of `worse` (S, N), over the same draws of architectures."""
    return _estimate(kind, _any_two(better), less=_any_two(worse))


def crossed(kind: str, first: Mapping[int, Scores], second: Mapping[int, Scores]) -> Estimate:
    """Mean correlation of a score of `first` with one of `second`, each (N,) by its seed, over pairs of unlike seeds.

    It compares with `agreement` as like with like: both are of two single trainings that share no seed.
    Raises ValueError where every pair shares its seed.
    """
    return _estimate(kind, _unlike(first, second))


def shortfall(kind: str, first: Mapping[int, Scores], second: Mapping[int, Scores]) -> Estimate:
    """Mean of the agreements within `first` and within `second` less what `crossed` gives, over the same draws.

    Above 0 where other data change the order more than another seed does. Needs two seeds of each.
    """
    across, *within = _unlike(first, second), *(_any_two([*scores.values()]) for scores in (first, second))
    return bootstrap(
        len(across[0][0]),
        lambda draws: np.mean([_mean(kind, pairs, draws) for pairs in within], 0) - _mean(kind, across, draws),
    )


def deviations(scores: ArrayLike) -> tuple[Estimate, Estimate]:
    """Standard deviations of architectures and of trainings of one: scores (S, N) of S >= 2 seeds, in their unit.

    A score is a seed's mean, plus what its architecture is worth, plus a rest that the seed draws for it. The first
    variance is the covariance of two seeds, mean over pairs and 0 at least, the second what is left of a seed's.
    """
    rows = np.asarray(scores, np.float64)

    def variances(draws: Draws) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weights = draws / draws.sum(1, keepdims=True)
        centred = rows - (weights @ rows.T)[..., None]  # (draws, S, N)
        moments = np.einsum("dn,dsn,dtn->dst", draws, centred, centred) / (draws.sum(1) - 1)[:, None, None]
        own = np.einsum("dss->d", moments)
        shared = (moments.sum((1, 2)) - own) / (len(rows) * (len(rows) - 1))
        return shared, own / len(rows) - shared

    def root(which: int) -> Estimate:
        return bootstrap(rows.shape[1], lambda draws: np.sqrt(np.maximum(variances(draws)[which], 0.0)))

    return root(0), root(1)


def mean_of_largest(count: int) -> float:
    """Expected largest of `count` draws from a standard normal distribution, in standard deviations."""
    found, _ = integrate.quad(lambda x: count * x * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1), -10, 10)
    return float(found)


Pairs = list[tuple[Scores, Scores]]


def _with(scores: ArrayLike, truth: ArrayLike) -> Pairs:
    return [(row, np.asarray(truth)) for row in np.atleast_2d(scores)]


def _any_two(scores: ArrayLike) -> Pairs:
    return list(combinations(np.asarray(scores), 2))


def _unlike(first: Mapping[int, Scores], second: Mapping[int, Scores]) -> Pairs:
    pairs = [(first[one], second[other]) for one, other in product(first, second) if one != other]
    if not pairs:
        raise ValueError(f"seeds {[*first]} and {[*second]}: no two differ")
    return pairs


def _estimate(kind: str, pairs: Pairs, less: Pairs | None = None) -> Estimate:
    """Mean correlation of `pairs`, less that of others where there are any."""
    return bootstrap(
        len(pairs[0][0]), lambda draws: _mean(kind, pairs, draws) - (_mean(kind, less, draws) if less else 0.0)
    )


def _mean(kind: str, pairs: Pairs, draws: Draws) -> NDArray[np.float64]:
    return np.mean([CORRELATIONS[kind](one, other, draws) for one, other in pairs], 0)


def bootstrap(count: int, statistic: Statistic) -> Estimate:
    """The statistic of `count` architectures, and its interval over draws of as many with replacement.

    Draws for which it is not defined (a constant score) are left out.
    """
    generator = np.random.default_rng(0)
    draws = [np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(DRAWS)]
    tail = (1 - CONFIDENCE) / 2
    values = statistic(np.array(draws, np.float64))
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, (tail, 1 - tail)) if known.size else (float("nan"), float("nan"))
    return Estimate(float(statistic(np.ones((1, count)))[0]), float(low), float(high), count)
