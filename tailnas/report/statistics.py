"""Statistics over seeds: spread, paired differences, and what a study of this size could have detected (method 9)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from tailnas.evaluate.intervals import wilson

CONFIDENCE = 0.95
LEVEL = 0.05
POWER = 0.80
SIGN_PATTERNS = 100_000
MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class Spread:
    """Mean of `n` values; standard deviation (n - 1) is None for a single value.

    The ends of the t interval are None for a single value and for equal ones, whose spread the values cannot tell.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and Student's 95 % t interval of the mean, of one value or more."""
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Spread(n, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    if sd <= 1e-12:
        return Spread(n, mean, 0.0, None, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / n**0.5
    return Spread(n, mean, sd, mean - half, mean + half)


@cache
def sign_flip_test(differences: tuple[float, ...], seed: int = 0) -> float:
    """Two-sided p value of the paired sign-flip (randomisation) test of the mean of two or more differences.

    Under the null hypothesis each difference is as likely with either sign. Up to 16 differences all 2^n sign
    patterns are counted, so p is exact and at least 2 / 2^n; above, 100,000 seeded draws are, the observed one
    included (Phipson and Smyth, 2010).
    """
    result = stats.permutation_test(
        (differences,),
        lambda flipped, axis: np.sum(flipped, axis=axis).round(12),  # so that ties of binary fractions are ties
        permutation_type="samples",
        vectorized=True,
        n_resamples=SIGN_PATTERNS,
        batch=2**14,
        rng=seed,
    )
    return float(result.pvalue)


def mcnemar_test(gained: int, lost: int) -> float:
    """Two-sided p value of McNemar's exact test: of `gained` + `lost` images that two networks judge differently, each
    is as likely to go either way (McNemar, 1947; Clopper-Pearson's distribution).
    """
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def paired_interval(gained: int, lost: int, images: int) -> tuple[float, float]:
    """Score interval (95 %) of the difference of two shares on the same `images`, (gained - lost) / images.

    The differences d whose score statistic (gained - lost - N d) / sqrt(N (2 q + d (1 - d))) lies within 1.96, q being
    the most likely share of losses where the difference is d (Tango, 1998).
    """
    critical = float(stats.norm.ppf((1 + CONFIDENCE) / 2))

    def statistic(difference: float) -> float:
        a, c = 2.0 * images, -lost * difference * (1 - difference)
        b = -gained - lost + (2 * images - gained + lost) * difference
        losses = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = images * (2 * losses + difference * (1 - difference))
        return float((gained - lost - images * difference) / np.sqrt(max(variance, 1e-300)))

    middle = (gained - lost) / images
    low = -1.0 if middle == -1 else optimize.brentq(lambda d: statistic(d) - critical, -1 + 1e-12, middle)
    high = 1.0 if middle == 1 else optimize.brentq(lambda d: statistic(d) + critical, middle, 1 - 1e-12)
    return float(low), float(high)


@dataclass(frozen=True)
class Components:
    """Variances of a nested design: of groups (searches), and of members within a group (retrainings of one genotype).

    share: between / (between + within), the intraclass correlation, with the ends of its exact interval; None where
    nothing varies. groups, members: S searches of each family and R retrainings of each search.
    """

    between: float
    within: float
    share: float | None
    low: float | None
    high: float | None
    groups: int
    members: int


def variance_components(families: Sequence[ArrayLike]) -> Components:
    """Variance components of a one-way random-effects analysis of variance.

    families: arrays (S, R) of R >= 2 members in each of S >= 2 groups; each family (a method) has a mean of its own,
    and all have the same variances. Within: the mean square within groups. Between: (MS between - MS within) / R, at
    least 0. The interval of the share is exact under normality (Searle, Linear Models, 1971, chapter 9).
    """
    values = [np.asarray(family, np.float64) for family in families]
    groups, members = values[0].shape
    means = [family.mean(axis=1) for family in values]
    inner = sum(float(((family - mean[:, None]) ** 2).sum()) for family, mean in zip(values, means, strict=True))
    outer = members * sum(float(((mean - mean.mean()) ** 2).sum()) for mean in means)
    freedom = len(values) * (groups - 1), len(values) * groups * (members - 1)
    between_square, within = outer / freedom[0], inner / freedom[1]
    between = max(0.0, (between_square - within) / members)
    if within <= 1e-24:
        share = 1.0 if between > 1e-24 else None
        return Components(between, 0.0, share, None, None, groups, members)

    def bound(quantile: float) -> float:
        ratio = max(0.0, (between_square / within / float(stats.f.ppf(quantile, *freedom)) - 1) / members)
        return ratio / (1 + ratio)

    tail = (1 - CONFIDENCE) / 2
    share = between / (between + within)
    return Components(between, within, share, bound(1 - tail), bound(tail), groups, members)


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


def paired_t_power(effect: float, n: int) -> float:
    """Power of the two-sided 5 % paired t test for a true mean of `effect` standard deviations and `n` >= 2 pairs."""
    critical, shift = stats.t.ppf(1 - LEVEL / 2, n - 1), abs(effect) * n**0.5
    right, left = stats.nct.sf(critical, n - 1, shift), stats.nct.cdf(-critical, n - 1, shift)
    # scipy gives NaN for a left tail that is too small for it (below 1e-10)
    return float(right + np.nan_to_num(left, nan=0.0))


def smallest_detectable_difference(sd: float, n: int) -> float:
    """True mean difference that a two-sided paired t test at 5 % finds with 80 % power.

    `sd` is the standard deviation of the paired differences (the result has its unit) and `n` >= 2 the pairs.
    """
    upper = 1.0
    while paired_t_power(upper, n) < POWER:
        upper *= 2
    return sd * float(optimize.brentq(lambda effect: paired_t_power(effect, n) - POWER, 0.0, upper, xtol=1e-10))


def pairs_needed(difference: float, sd: float) -> int:
    """Fewest pairs, up to a million, with which a paired t test finds a true mean `difference` with 80 % power."""
    if sd == 0:
        return 2
    return bisect_left(range(MOST_PAIRS), POWER, lo=2, key=lambda n: paired_t_power(difference / sd, n))


def accuracy_half_width(accuracy: float, images: int) -> float:
    """Half the width of Wilson's 95 % interval of an accuracy measured on `images` independent test images.

    The uncertainty that the test set's size alone leaves in one trained network's figure; seeds add to it.
    """
    low, high = wilson(round(accuracy * images), images)
    return float(high - low) / 2
