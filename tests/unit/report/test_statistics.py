import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from tailnas.report.statistics import (
    accuracy_half_width,
    holm,
    mcnemar_test,
    paired_interval,
    paired_t_power,
    pairs_needed,
    sign_flip_test,
    smallest_detectable_difference,
    smallest_p_value,
    spread,
    variance_components,
)

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Extra sleep, drug 2 minus drug 1 (Student, 1908): the textbook paired sample."""


def test_t_interval_of_students_sleep_data():
    result = spread(SLEEP)
    assert result.n == 10
    assert result.mean == pytest.approx(1.58)
    assert result.sd == pytest.approx(1.229995, abs=1e-6)
    assert (result.low, result.high) == (pytest.approx(0.7001142, abs=1e-6), pytest.approx(2.4598858, abs=1e-6))


def test_one_value_has_no_interval():
    result = spread([0.25])
    assert (result.n, result.mean, result.sd, result.low, result.high) == (1, 0.25, None, None, None)


def test_equal_values_have_no_interval():
    """Two runs that gain 3 of 10 images each tell nothing of the spread; an interval of no width would be a proof."""
    result = spread([0.3, 0.3])
    assert (result.mean, result.sd, result.low, result.high) == (0.3, 0.0, None, None)
    nearly = spread([0.3, 0.3 + 1e-9])
    assert nearly.low < 0.3 < nearly.high, "but values that differ have one, by however little"


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [(0, 0, 1.0), (3, 0, 2 / 8), (0, 3, 2 / 8), (5, 0, 2 / 32), (6, 0, 2 / 64), (8, 1, 2 * 10 / 512), (2, 2, 1.0)],
)
def test_mcnemars_exact_test_by_hand(gained, lost, p_value):
    assert mcnemar_test(gained, lost) == pytest.approx(p_value)


def score_statistic(gained, lost, images, difference):
    """By definition: the score of the difference under the most likely multinomial shares that have it, in float64."""
    least = max(0.0, -difference)

    def likelihood(losses):
        gains = losses + difference
        same = 1 - losses - gains
        terms = ((gained, gains), (lost, losses), (images - gained - lost, same))
        return -sum(count * np.log(max(share, 1e-300)) for count, share in terms if count)

    best = optimize.minimize_scalar(
        likelihood, bounds=(least, (1 - difference) / 2), method="bounded", options={"xatol": 1e-13}
    ).x
    variance = images * (2 * best + difference * (1 - difference))
    return (gained - lost - images * difference) / variance**0.5


@pytest.mark.parametrize(
    ("gained", "lost", "images"), [(3, 0, 10), (12, 2, 50), (2, 9, 40), (1, 1, 10), (0, 7, 25), (30, 12, 200)]
)
def test_the_paired_interval_ends_where_its_score_is_196(gained, lost, images):
    low, high = paired_interval(gained, lost, images)
    assert low < (gained - lost) / images < high
    assert score_statistic(gained, lost, images, low) == pytest.approx(1.959964, abs=1e-4)
    assert score_statistic(gained, lost, images, high) == pytest.approx(-1.959964, abs=1e-4)
    mirrored = paired_interval(lost, gained, images)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-9)


def test_no_change_and_every_change_have_an_interval_of_some_width():
    """Where a Wald interval has none: nothing gained or lost, and 3 of 10 gained from 0."""
    for images in (1, 2, 3, 10):
        low, high = paired_interval(0, 0, images)
        # nobody judged differently: z^2 = N d^2 / (|d| (1 - |d|)) at the ends
        assert high == pytest.approx(1.959964**2 / (images + 1.959964**2), abs=1e-6) and low == pytest.approx(-high)
        # every one gained: z^2 = N (1 - d) / (1 + d)
        low = (images - 1.959964**2) / (images + 1.959964**2)
        assert paired_interval(images, 0, images) == pytest.approx((low, 1.0), abs=1e-6)
        assert paired_interval(0, images, images) == pytest.approx((-1.0, -low), abs=1e-6)


def test_variance_components_by_hand():
    """Two searches of two retrainings: 1, 3 and 7, 9. MS between 36, MS within 2: (36 - 2) / 2 = 17."""
    found = variance_components([[[1.0, 3.0], [7.0, 9.0]]])
    assert (found.between, found.within) == (17.0, 2.0)
    assert found.share == pytest.approx(17 / 19)
    ratio = [(18 / stats.f.ppf(tail, 1, 2) - 1) / 2 for tail in (0.975, 0.025)]
    assert found.low == max(0.0, ratio[0] / (1 + ratio[0])) and found.high == pytest.approx(ratio[1] / (1 + ratio[1]))
    # a second method with another mean and the same spread: the same components, more degrees of freedom
    both = variance_components([[[1.0, 3.0], [7.0, 9.0]], [[51.0, 53.0], [57.0, 59.0]]])
    assert (both.between, both.within) == (17.0, 2.0)
    # searches that differ less than their retrainings have no variance of their own
    assert variance_components([[[1.0, 9.0], [2.0, 8.0]]]).between == 0.0
    assert variance_components([[[5.0, 5.0], [5.0, 5.0]]]).share is None
    # nothing but the search varies
    alone = variance_components([[[1.0, 1.0], [2.0, 2.0]]])
    assert (alone.between, alone.within, alone.share, alone.low, alone.high) == (0.5, 0.0, 1.0, None, None)


def test_the_interval_of_the_share_by_hand():
    """Four searches of two retrainings: means 2, 8, 4 and 10; MS between 80 / 3, MS within (2 + 2 + 8 + 2) / 4."""
    found = variance_components([[[1.0, 3.0], [7.0, 9.0], [2.0, 6.0], [9.0, 11.0]]])
    quotient = (80 / 3) / (14 / 4)
    low, high = ((quotient / stats.f.ppf(tail, 3, 4) - 1) / 2 for tail in (0.975, 0.025))
    assert (found.low, found.high) == pytest.approx((max(0, low) / (1 + max(0, low)), high / (1 + high)))
    assert (found.groups, found.members) == (4, 2)
    steady = variance_components([[[1.0, 1.2], [7.0, 7.3], [4.0, 4.1], [10.0, 10.2]]])
    quotient = 2 * np.var([1.1, 7.15, 4.05, 10.1], ddof=1) / ((0.02 + 0.045 + 0.005 + 0.02) / 4)
    low = (quotient / stats.f.ppf(0.975, 3, 4) - 1) / 2
    assert steady.low == pytest.approx(low / (1 + low)) and low > 10


def test_variance_components_of_a_simulated_study():
    """400 studies of 3 methods x 6 searches x 4 retrainings; sd 2 between, 1 within: share 0.8."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(400):
        searches = draw.normal(0, 2, (3, 6, 1)) + np.array([50, 60, 70])[:, None, None]
        found.append(variance_components(list(searches + draw.normal(0, 1, (3, 6, 4)))))
    assert np.mean([one.between for one in found]) == pytest.approx(4.0, abs=0.25)
    assert np.mean([one.within for one in found]) == pytest.approx(1.0, abs=0.02)
    covered = np.mean([one.low <= 0.8 <= one.high for one in found])
    assert 0.95 - 3 * 0.0109 < covered < 0.95 + 3 * 0.0109, "the interval is exact: 95 % within three standard errors"


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ((1.0, 2.0), 2 / 4),
        ((1.0,) * 5, 2 / 32),
        # of the 8 patterns of (3, 2, -1) those with |sum| >= 4 are +3+2-1, +3+2+1 and their mirror images
        ((3.0, 2.0, -1.0), 4 / 8),
        ((0.0, 0.0), 1.0),
        # of binary fractions this sum is no zero, and it must tie with the patterns whose sum is one
        ((0.1, 0.2, -0.3, 0.1, -0.1), 1.0),
    ],
)
def test_sign_flip_counts_every_sign_pattern(differences, p_value):
    assert sign_flip_test(differences) == p_value


@settings(max_examples=40)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9))
def test_sign_flip_agrees_with_enumeration_in_exact_integers(values):
    extreme = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= abs(sum(values))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    # tenths are not exact in binary: ties must still count as ties
    assert sign_flip_test(tuple(value / 10 for value in values)) == sum(extreme) / len(extreme)


def test_sign_flip_of_twenty_one_is_seeded_and_close_to_exact():
    differences = tuple(np.random.default_rng(3).normal(0.3, 1.0, size=21))
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    exact = np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-12)
    estimate = sign_flip_test(differences, seed=1)
    assert estimate == sign_flip_test(differences, seed=1)
    assert estimate != sign_flip_test(differences, seed=2)
    assert estimate == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 100_000) ** 0.5)


def test_sign_flip_is_exact_up_to_sixteen():
    assert sign_flip_test((1.0,) * 16) == 2 / 2**16
    drawn = sign_flip_test((1.0,) * 17)
    assert drawn != 2 / 2**17 and drawn * 100_001 == pytest.approx(round(drawn * 100_001), abs=1e-6)


def test_smallest_p_value_of_the_exact_test():
    assert smallest_p_value(0) == 1.0
    assert [smallest_p_value(n) for n in (1, 2, 5, 6)] == [1.0, 0.5, 0.0625, 0.03125]
    assert smallest_p_value(7) == sign_flip_test((0.3,) * 7)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1.0, len(p_values) * raw) + 1e-15
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_power_of_published_designs():
    # Cohen's medium effect needs 34 pairs, small 199, large 15 (80 % power, two-sided 5 %)
    assert paired_t_power(0.5, 34) == pytest.approx(0.8077775, abs=1e-6)
    assert [pairs_needed(effect, 1.0) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]


@pytest.mark.parametrize(("effect", "n"), [(0.0, 5), (0.5, 3), (4.0, 2), (16.0, 2), (1.0, 199)])
def test_power_agrees_with_integration_over_the_standard_deviation(effect, n):
    critical, shift, freedom = stats.t.ppf(0.975, n - 1), effect * n**0.5, n - 1

    def density(scale):
        tails = stats.norm.cdf(shift - critical * scale) + stats.norm.cdf(-shift - critical * scale)
        return tails * stats.chi.pdf(scale * freedom**0.5, freedom) * freedom**0.5

    expected, _ = integrate.quad(density, 0, 10, points=[0.5, 1, 2], limit=400)
    assert paired_t_power(effect, n) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 35, 200])
def test_detectable_difference_has_the_power_it_claims_and_the_unit_of_the_sd(n):
    effect = smallest_detectable_difference(1.0, n)
    assert paired_t_power(effect, n) == pytest.approx(0.8, abs=1e-8)
    assert smallest_detectable_difference(2.5, n) == pytest.approx(2.5 * effect)


def test_detectable_difference_at_the_sizes_of_the_method_page():
    # sd 1.6 points: five pairs resolve about 2.7 points, 1 point needs 23 pairs (43 where both arms vary on their own)
    assert smallest_detectable_difference(1.6, 5) == pytest.approx(2.691, abs=1e-3)
    assert pairs_needed(1.0, 1.6) == 23
    assert pairs_needed(1.0, 1.6 * 2**0.5) == 43


def test_detectable_difference_without_variation_is_zero():
    assert smallest_detectable_difference(0.0, 4) == 0.0
    assert pairs_needed(1.0, 0.0) == pairs_needed(100.0, 1.0) == 2


def test_pairs_that_no_study_has_are_a_million():
    assert pairs_needed(1e-6, 1.0) == 1_000_000


def test_wilson_half_width():
    # 8 of 10: Wilson's interval is 0.4902 to 0.9433
    assert accuracy_half_width(0.8, 10) == pytest.approx((0.9433178 - 0.4901625) / 2, abs=1e-6)
    assert accuracy_half_width(1.0, 50) > 0
