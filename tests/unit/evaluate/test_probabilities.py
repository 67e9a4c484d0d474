"""What is measured of a calibrated network, against the probabilities' own truth."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tailnas.calibration.conformal import class_thresholds
from tailnas.calibration.errors import expected_calibration_error
from tailnas.evaluate.calibration import calibration
from tailnas.evaluate.metrics import Groups

COUNTS = (300, 60, 12)
GROUPS = Groups("counts", (0,), (1,), (2,))
MEANS = np.array([-1.0, 0.0, 1.5])


def drawn(seed, sizes):
    """Labels, and exact posteriors (N, 3) where classes of Gaussian values are alike."""
    labels = np.repeat(np.arange(3), sizes)
    values = np.random.default_rng(seed).normal(MEANS[labels], 1.0)
    likelihood = stats.norm.pdf(values[:, None], MEANS)
    return labels, likelihood / likelihood.sum(1, keepdims=True)


def sharpened(probabilities, exponent):
    p = probabilities**exponent
    return p / p.sum(1, keepdims=True)


def measured(probabilities, labels, **network):
    given = {"temperature": 1.0, "prior": (1 / 3,) * 3, "class_thresholds": None, "miss": None} | network
    return calibration(SimpleNamespace(**given), probabilities, labels, COUNTS, GROUPS, 15)


def test_the_right_temperature_takes_the_error_away():
    labels, exact = drawn(0, 4_000)
    found = measured(sharpened(exact, 2.5), labels, temperature=2.5)
    plain = measured(exact, labels)
    assert found["before"]["ece"] > 0.1 > 0.02 > found["after"]["ece"]
    assert plain["before"]["ece"] < 2 * plain["before"]["ece_by_chance"] < found["before"]["ece"] / 4
    for key in ("ece", "ece_by_chance", "adaptive_ece", "brier"):
        assert found["after"][key] == pytest.approx(plain["before"][key], abs=1e-9)
        assert plain["before"][key] == pytest.approx(plain["after"][key])
    assert found["before"]["groups"]["few"]["ece"] == pytest.approx(
        expected_calibration_error(sharpened(exact, 2.5)[labels == 2], labels[labels == 2], 15)
    )
    bins = found["after"]["reliability"]
    assert sum(one["images"] for one in bins) == len(labels)
    assert sum(one["images"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / len(labels) == pytest.approx(
        found["after"]["ece"]
    )


def test_abstaining_and_sets():
    labels, exact = drawn(1, 3_000)
    other_labels, other = drawn(2, (2_000, 2_000, 5))
    thresholds = tuple(class_thresholds(other, other_labels, 0.1))
    found = measured(exact, labels, class_thresholds=thresholds, miss=0.1)
    risks = [point["risk"] for point in found["risk_coverage"]]
    assert risks[-1] == pytest.approx(np.mean(exact.argmax(1) != labels))
    assert risks[0] < risks[4] < risks[-1]
    assert [point["coverage"] for point in found["risk_coverage"]] == pytest.approx(np.arange(1, 11) / 10, abs=1e-3)
    classes = found["sets"]["classes"]
    assert [one["guaranteed"] for one in classes] == [True, True, False]
    assert classes[2]["coverage"] == 1 and all(abs(one["coverage"] - 0.9) < 0.02 for one in classes[:2])
    assert found["sets"]["size"] == pytest.approx(np.mean([one["size"] for one in classes]))
    assert measured(exact, labels)["sets"] is None


def test_a_group_or_class_without_test_images():
    labels, exact = drawn(3, (50, 50, 0))
    found = measured(exact, labels, class_thresholds=(0.1, 0.1, 0.1), miss=0.1)
    assert found["before"]["groups"]["few"] is None
    assert found["sets"]["classes"][2] == {"images": 0, "coverage": None, "size": None, "guaranteed": True}


def test_other_priors_against_images_that_are_drawn_by_them():
    labels, exact = drawn(4, 8_000)
    found = measured(exact, labels)["priors"]
    for name, sizes in (("forward", COUNTS), ("backward", COUNTS[::-1])):
        share = np.array(sizes) / sum(COUNTS)
        there, p = drawn(5, (share * 15_000).astype(int))
        best = (p * share).argmax(1)
        assert found[name]["as_it_is"] == pytest.approx(np.mean(p.argmax(1) == there), abs=0.015)
        assert found[name]["told"] == pytest.approx(np.mean(best == there), abs=0.015)
        assert found[name]["estimated"] == pytest.approx(found[name]["told"], abs=0.015)
        assert found[name]["told"] > found[name]["as_it_is"] + 0.05
    assert found["uniform"]["told"] == found["uniform"]["as_it_is"] == pytest.approx(np.mean(exact.argmax(1) == labels))
