"""Statistics over seeds: spread, paired differences, and what a study of this size could have detected (method 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
LEVEL = 0.05
POWER = 0.80
EXACT_UP_TO = 20
MONTE_CARLO_DRAWS = 100_000


@dataclass(frozen=True)
class Spread:
    """Mean of `n` values; standard deviation (n - 1) and the t interval's ends are None for a single value."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedComparison:
    """A method against a baseline over common seeds; `difference` is method minus baseline.

    `p_value` is the sign-flip test's and `detectable` the smallest difference found with 80 % power; both are None
    for a single pair.
    """

    difference: Spread
    p_value: float | None
    detectable: float | None


def spread(values: Sequence[float], confidence: float = CONFIDENCE) -> Spread:
    """Mean, standard deviation and Student's t interval of the mean."""
    sample = _sample(values)
    n, mean = len(sample), float(np.mean(sample))
    if n == 1:
        return Spread(n, mean, None, None, None)
    sd = float(np.std(sample, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / n**0.5
    return Spread(n, mean, sd, mean - half, mean + half)


def sign_flip_test(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p value of the paired sign-flip (randomisation) test with the mean as its statistic.

    Under the null hypothesis each difference is as likely with either sign. Up to 20 differences all 2^n sign
    patterns are counted, so p is exact and at least 2 / 2^n; above, 100,000 seeded draws are, the observed one
    included (Phipson and Smyth, 2010).
    """
    sample = _sample(differences)
    observed = abs(sample.sum())
    tolerance = 1e-12 * np.abs(sample).sum()
    if len(sample) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in sample:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed - tolerance))
    generator = np.random.default_rng(seed)
    extreme = 0
    for draws in np.array_split(np.arange(MONTE_CARLO_DRAWS), 100):
        signs = generator.integers(0, 2, size=(len(draws), len(sample))) * 2 - 1
        extreme += int(np.sum(np.abs(signs @ sample) >= observed - tolerance))
    return (extreme + 1) / (MONTE_CARLO_DRAWS + 1)


def smallest_p_value(n: int) -> float:
    """The least p value that the exact sign-flip test can give for `n` pairs: 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Holm, 1979)."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def paired_t_power(effect: float, n: int, level: float = LEVEL) -> float:
    """Power of the two-sided paired t test for a true mean of `effect` standard deviations and `n` >= 2 pairs."""
    if n < 2:
        raise ValueError(f"n is {n}; a paired t test needs at least 2 pairs")
    critical, shift = stats.t.ppf(1 - level / 2, n - 1), abs(effect) * n**0.5
    right, left = stats.nct.sf(critical, n - 1, shift), stats.nct.cdf(-critical, n - 1, shift)
    # scipy gives NaN for a left tail that is too small for it (below 1e-10)
    return float(right + np.nan_to_num(left, nan=0.0))


def smallest_detectable_difference(sd: float, n: int, power: float = POWER, level: float = LEVEL) -> float:
    """True mean difference that a two-sided paired t test at `level` finds with probability `power`.

    `sd` is the standard deviation of the paired differences (the result has its unit) and `n` >= 2 the pairs.
    """
    if sd == 0:
        return 0.0
    upper = 1.0
    while paired_t_power(upper, n, level) < power:
        upper *= 2
    return sd * float(optimize.brentq(lambda effect: paired_t_power(effect, n, level) - power, 0.0, upper, xtol=1e-10))


def pairs_needed(difference: float, sd: float, power: float = POWER, level: float = LEVEL) -> int:
    """Fewest pairs with which a paired t test finds a true mean `difference` with probability `power`."""
    if sd == 0:
        return 2
    if difference == 0:
        raise ValueError("difference is 0; no number of pairs finds it")
    effect, many = abs(difference) / sd, 2
    while paired_t_power(effect, many, level) < power:
        many *= 2
    few = max(2, many // 2)
    while few < many:
        middle = (few + many) // 2
        if paired_t_power(effect, middle, level) < power:
            few = middle + 1
        else:
            many = middle
    return many


def compare_pairs(method: Sequence[float], baseline: Sequence[float]) -> PairedComparison:
    """Compare two methods over the same seeds, in the same order."""
    if len(method) != len(baseline):
        raise ValueError(f"{len(method)} and {len(baseline)} values; pairs need as many of each")
    differences = [a - b for a, b in zip(method, baseline, strict=True)]
    difference = spread(differences)
    if difference.sd is None:
        return PairedComparison(difference, None, None)
    detectable = smallest_detectable_difference(difference.sd, difference.n)
    return PairedComparison(difference, sign_flip_test(differences), detectable)


def accuracy_half_width(accuracy: float, images: int, confidence: float = CONFIDENCE) -> float:
    """Half the width of Wilson's interval of an accuracy measured on `images` independent test images.

    The uncertainty that the test set's size alone leaves in one trained network's figure; seeds add to it.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    return z / (1 + z**2 / images) * (accuracy * (1 - accuracy) / images + z**2 / (4 * images**2)) ** 0.5


def _sample(values: Sequence[float]) -> np.ndarray:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError("at least one value is needed")
    if not np.isfinite(sample).all():
        raise ValueError("every value must be finite")
    return sample
