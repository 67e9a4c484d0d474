import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

from tailnas.calibration.conformal import class_thresholds, least_images, prediction_sets
from tailnas.calibration.decisions import least_cost, risk_coverage
from tailnas.calibration.errors import (
    adaptive_calibration_error,
    brier_score,
    error_by_chance,
    expected_calibration_error,
)
from tailnas.calibration.priors import estimated_prior, under_prior
from tailnas.calibration.temperature import at_more_images, fitted_temperature, scaled

MEANS = np.array([-1.5, 0.0, 2.0])


def drawn(prior, count, seed):
    """Labels, and the exact posteriors under `TRAINED`, of Gaussian classes that occur with `prior`."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=prior)
    values = rng.normal(MEANS[labels], 1.0)
    likelihood = stats.norm.pdf(values[:, None], MEANS)
    return labels, likelihood


def posteriors(likelihood, prior):
    joint = likelihood * prior
    return joint / joint.sum(axis=1, keepdims=True)


TRAINED = np.array([0.7, 0.2, 0.1])


class TestTemperature:
    @pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
    def test_it_undoes_a_planted_one(self, temperature):
        rng = np.random.default_rng(0)
        logits = rng.normal(0, 2, (60_000, 4))
        labels = (softmax(logits, axis=1).cumsum(1) > rng.random((60_000, 1))).argmax(1)
        assert fitted_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.02)

    def test_four_images_by_hand(self):
        """Confidence sigmoid(1 / T) of all, 3 right: (3 + 1/2) / (4 + 1) = 0.7, so T = 1 / log(0.7 / 0.3)."""
        logits = np.array([[1.0, 0.0]] * 4)
        found = fitted_temperature(logits, [0, 0, 0, 1])
        assert found == pytest.approx(1 / np.log(0.7 / 0.3), rel=1e-9)
        assert fitted_temperature(logits[:2], [0, 1], [3, 1]) == pytest.approx(found, rel=1e-9)
        np.testing.assert_allclose(scaled(logits[:1], found), [[0.7, 0.3]])

    def test_confidence_is_the_share_of_correct_ones(self):
        rng = np.random.default_rng(6)
        logits, labels = rng.normal(0, 3, (400, 5)), rng.integers(0, 5, 400)
        labels[:250] = logits[:250].argmax(1)
        confidence = scaled(logits, fitted_temperature(logits, labels)).max(1).mean()
        assert confidence == pytest.approx(((logits.argmax(1) == labels).sum() + 0.5) / 401, abs=1e-11)

    def test_what_is_never_wrong_is_not_certain_and_what_is_never_right_ends_at_the_bound(self):
        logits = np.array([[1.0, 0.0]] * 9)
        assert scaled(logits, fitted_temperature(logits, [0] * 9))[0, 0] == pytest.approx(9.5 / 10)
        assert fitted_temperature(logits, [1] * 9) == 20
        assert fitted_temperature(logits / 1e3, [0] * 9) == 1 / 20
        with pytest.raises(ValueError, match="labels: none"):
            fitted_temperature(np.empty((0, 2)), [])

    def test_logistic_regression_on_twice_the_images_is_half_as_far_from_one(self):
        """Maximum likelihood on n and 2 n images; the best T for others whose probabilities are known exactly."""
        rng, true = np.random.default_rng(9), np.full(8, 0.6)
        others = rng.normal(size=(1_000, 8))
        known = expit(others @ true)
        weights, labels = np.concatenate([known, 1 - known]), np.repeat([1, 0], len(known))

        def mean_log_temperature(images):
            found = []
            for _ in range(100):
                features = rng.normal(size=(images, 8))
                score = others @ logistic_fit(features, rng.random(images) < expit(features @ true))
                logits = np.tile(np.column_stack([np.zeros_like(score), score]), (2, 1))
                found.append(np.log(fitted_temperature(logits, labels, weights)))
            return np.mean(found)

        half, whole = mean_log_temperature(150), mean_log_temperature(300)
        assert half > 0.15
        assert np.log(at_more_images(np.exp(half), 1 / 2)) == pytest.approx(whole, rel=0.25)


def logistic_fit(features, labels):
    """Weights (D,) of the maximum likelihood, by Newton's steps."""
    weights = np.zeros(features.shape[1])
    for _ in range(12):
        p = expit(features @ weights)
        weights += np.linalg.solve(features.T @ (features * (p * (1 - p))[:, None]), features.T @ (labels - p))
    return weights


class TestPriors:
    def test_bayes_against_the_posteriors_themselves(self):
        _, likelihood = drawn(TRAINED, 50, 1)
        other = np.array([0.2, 0.3, 0.5])
        np.testing.assert_allclose(
            under_prior(posteriors(likelihood, TRAINED), 10 * TRAINED, other), posteriors(likelihood, other), rtol=1e-12
        )

    def test_a_class_that_never_occurs_has_no_probability(self):
        assert under_prior([[0.5, 0.5, 0.0]], TRAINED, [0, 3, 1])[0] == pytest.approx([0, 1, 0])
        assert under_prior([[1.0, 0.0, 0.0]], (1, 1, 1), [0, 3, 1])[0] == pytest.approx([0, 0.75, 0.25])

    @pytest.mark.parametrize("planted", [(0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1), (0.0, 0.5, 0.5)])
    def test_a_planted_shift_is_recovered(self, planted):
        _, likelihood = drawn(planted, 4_000, 2)
        found = estimated_prior(posteriors(likelihood, TRAINED), TRAINED)
        np.testing.assert_allclose(found, planted, atol=0.03)
        assert found.sum() == pytest.approx(1)

    def test_it_is_the_maximum_of_the_likelihood(self):
        """Against a fine grid over the simplex of three classes."""
        _, likelihood = drawn((0.3, 0.3, 0.4), 200, 3)
        grid = np.array([(a, b, 1 - a - b) for a in np.linspace(0, 1, 201) for b in np.linspace(0, 1 - a, 201)])
        best = grid[np.log(likelihood @ grid.T + 1e-300).sum(axis=0).argmax()]
        np.testing.assert_allclose(estimated_prior(posteriors(likelihood, TRAINED), TRAINED), best, atol=0.006)


class TestConformal:
    def test_by_hand(self):
        probabilities = np.column_stack([np.arange(1, 10) / 10, 1 - np.arange(1, 10) / 10])
        assert class_thresholds(probabilities, [0] * 9, 0.2).tolist() == [0.2, 0.0]
        assert class_thresholds(probabilities, [0] * 9, 0.1)[0] == 0.1
        assert class_thresholds(probabilities[:8], [0] * 8, 0.1)[0] == 0
        assert prediction_sets([[0.2, 0.0], [0.1, 0.9]], [0.2, 0.5]).tolist() == [[True, False], [False, True]]
        with pytest.raises(ValueError, match="miss"):
            class_thresholds(probabilities, [0] * 9, 1.0)

    @pytest.mark.parametrize(("miss", "images"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.3, 3)])
    def test_fewest_images(self, miss, images):
        assert least_images(miss) == images
        values = np.linspace(0.1, 0.9, images)[:, None]
        assert class_thresholds(values, [0] * images, miss)[0] > 0
        assert class_thresholds(values[1:], [0] * (images - 1), miss)[0] == 0

    @pytest.mark.parametrize("sizes", [(9, 40, 200)])
    def test_coverage_is_that_of_the_theory(self, sizes):
        """Exchangeable scores: misses average floor((n + 1) miss) / (n + 1), exactly; 2,000 calibrations."""
        rng, miss, rounds = np.random.default_rng(4), 0.1, 2_000
        covered = np.zeros(3)
        for _ in range(rounds):
            labels = np.repeat(np.arange(3), sizes)
            likelihood = stats.norm.pdf(rng.normal(MEANS[labels], 1.0)[:, None], MEANS)
            thresholds = class_thresholds(posteriors(likelihood, TRAINED), labels, miss)
            new = posteriors(stats.norm.pdf(rng.normal(MEANS, 1.0)[:, None], MEANS), TRAINED)
            covered += np.diag(prediction_sets(new, thresholds))
        expected = np.array([1 - np.floor((n + 1) * miss + 1e-9) / (n + 1) for n in sizes])
        assert (np.abs(covered / rounds - expected) < 4 * np.sqrt(expected * (1 - expected) / rounds)).all()
        assert (expected >= 1 - miss - 1e-12).all()


class TestDecisions:
    def test_least_cost_by_hand(self):
        costs = [[0, 1], [20, 0]]  # missing class 1 is twenty times as bad
        assert least_cost([[0.96, 0.04], [0.94, 0.06]], costs).tolist() == [0, 1]
        assert least_cost([[0.3, 0.7]], 1 - np.eye(2)).tolist() == [1]
        assert least_cost([[0.5, 0.5]], [[0, 1, 0.4], [1, 0, 0.4]]).tolist() == [2]  # a third decision: ask someone

    def test_risk_coverage_by_hand(self):
        coverage, risk = risk_coverage([0.9, 0.6, 0.8, 0.6], [1, 0, 0, 1])
        assert coverage.tolist() == [0.25, 0.5, 1.0]
        assert risk.tolist() == [0.0, 0.5, 0.5]


class TestErrors:
    def test_by_hand(self):
        probabilities = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]
        labels = [0, 1, 0, 1]
        assert expected_calibration_error(probabilities, labels, 2) == pytest.approx(abs(3 - 3.0) / 4)
        # confidences 0.6, 0.7 | 0.8, 0.9 with hits 1, 1 | 0, 1
        assert adaptive_calibration_error(probabilities, labels, 2) == pytest.approx((0.7 + 0.7) / 4)
        assert brier_score(probabilities, labels) == pytest.approx(2 * (0.01 + 0.64 + 0.16 + 0.09) / 4)

    def test_calibrated_probabilities_have_next_to_none(self):
        labels, likelihood = drawn(TRAINED, 40_000, 5)
        p = posteriors(likelihood, TRAINED)
        wrong = posteriors(likelihood, np.ones(3) / 3)
        for error in (expected_calibration_error, adaptive_calibration_error):
            assert error(p, labels, 15) < 0.01 < 0.04 < error(wrong, labels, 15)
        assert brier_score(p, labels) < brier_score(wrong, labels)

    def test_what_chance_alone_makes_of_one_bin(self):
        """N images of confidence p in one bin: E|hits - N p| / N, from the binomial distribution."""
        hits = np.arange(21)
        expected = (stats.binom.pmf(hits, 20, 0.8) * abs(hits - 16)).sum() / 20
        found = error_by_chance([[0.8, 0.2]] * 20, 15, 20_000, np.random.default_rng(7))
        assert found == pytest.approx(expected, rel=0.02)

    def test_calibrated_probabilities_have_what_chance_makes(self):
        """The mean error of 200 sets of images whose posteriors are exact, against the resampling of one of them."""
        sets = [drawn(TRAINED, 150, 100 + seed) for seed in range(200)]
        exact = [(posteriors(likelihood, TRAINED), labels) for labels, likelihood in sets]
        mean = np.mean([expected_calibration_error(p, labels, 15) for p, labels in exact])
        chance = np.mean([error_by_chance(p, 15, 20, np.random.default_rng(8)) for p, _ in exact])
        assert chance == pytest.approx(mean, rel=0.06)
