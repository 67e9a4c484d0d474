import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailnas.calibration.errors import expected_calibration_error
from tailnas.data.dataset import Part
from tailnas.evaluate.intervals import mean_recall_interval, wilson
from tailnas.evaluate.measurement import evaluate, write_per_class, write_predictions
from tailnas.evaluate.metrics import (
    confusion_counts,
    evaluate_predictions,
    interval_metrics,
    per_class_recall,
    shot_groups,
)
from tailnas.foundation.errors import UserError

DIGITS = [124, 85, 58, 40, 27, 18, 12, 8, 6, 4]


def one_hot(predictions, num_classes):
    return np.eye(num_classes)[predictions]


def test_groups_by_counts_follow_the_fields_bounds():
    groups = shot_groups([101, 100, 20, 19, 500])
    assert groups.rule == "counts"
    assert (groups.many, groups.medium, groups.few) == ((0, 4), (1, 2), (3,))


def test_groups_of_the_default_study_in_shuffled_order():
    order = [3, 9, 0, 5, 1, 8, 2, 7, 4, 6]
    groups = shot_groups([DIGITS[i] for i in order])
    assert groups.rule == "counts"
    assert groups.many == (2,)
    assert groups.medium == (0, 4, 6, 8)
    assert groups.few == (1, 3, 5, 7, 9)
    assert [groups.by_class[index] for index in range(5)] == ["medium", "few", "many", "few", "medium"]


def test_an_empty_group_gives_thirds_by_size():
    groups = shot_groups([50, 400, 300, 200, 25, 30, 150])
    assert groups.rule == "thirds"
    assert (groups.many, groups.medium, groups.few) == ((1, 2, 3), (0, 6), (4, 5))


@pytest.mark.parametrize(("counts", "expected"), [([5], ((0,), (), ())), ([3, 9], ((1,), (), (0,)))])
def test_thirds_of_one_and_two_classes(counts, expected):
    groups = shot_groups(counts)
    assert (groups.rule, groups.many, groups.medium, groups.few) == ("thirds", *expected)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_groups_partition_the_classes_and_order_them_by_size(counts):
    groups = shot_groups(counts)
    assert sorted([*groups.many, *groups.medium, *groups.few]) == list(range(len(counts)))
    for larger, smaller in ((groups.many, groups.medium), (groups.medium, groups.few), (groups.many, groups.few)):
        assert min((counts[i] for i in larger), default=10**9) >= max((counts[i] for i in smaller), default=0)


def test_known_answers_of_a_small_case():
    labels = [0, 0, 0, 0, 1, 1, 2, 2]
    predictions = [0, 0, 0, 1, 1, 1, 0, 2]
    confusion = confusion_counts(labels, predictions, 3)
    assert confusion.tolist() == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert per_class_recall(confusion).tolist() == [0.75, 1.0, 0.5]
    metrics = evaluate_predictions(one_hot(predictions, 3), labels, [200, 50, 5], bins=10)
    assert metrics["top1"] == pytest.approx(6 / 8)
    assert metrics["balanced_accuracy"] == pytest.approx(0.75)
    # images weigh 1, 2 and 2, as if each class had 4; F1 of the three classes: 2*3/(2*3+1+2), 2*4/(2*4+1), 2*2/(2*2+2)
    assert metrics["macro_f1"] == pytest.approx((6 / 9 + 8 / 9 + 4 / 6) / 3)
    assert (metrics["many"], metrics["medium"], metrics["few"]) == (0.75, 1.0, 0.5)
    assert metrics["ece"] == pytest.approx(2 / 8)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_balanced_metrics_do_not_depend_on_how_many_test_images_a_class_has(seed, times):
    """Class 0 tested `times` as often with the same outcomes: what counts classes alike stays, top-1 moves to it."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], 6)
    probabilities = generator.dirichlet(np.ones(3), size=len(labels))
    rows = np.concatenate([np.tile(np.arange(6), times), np.arange(6, 18)])
    even, uneven = (
        evaluate_predictions(probabilities[chosen], labels[chosen], [200, 50, 5], 15) for chosen in (slice(None), rows)
    )
    for metric in ("balanced_accuracy", "macro_f1", "many", "medium", "few"):
        assert uneven[metric] == pytest.approx(even[metric], abs=1e-12)
    first = even["many"]
    assert uneven["top1"] == pytest.approx((3 * even["top1"] + (times - 1) * first) / (2 + times))


@given(st.integers(1, 300), st.data())
def test_wilson_against_scipy(images, data):
    right = data.draw(st.integers(0, images))
    known = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert wilson([right], [images])[:, 0] == pytest.approx([known.low, known.high], abs=1e-12)
    assert mean_recall_interval([right, 0], [images, 0]) == pytest.approx((known.low, known.high), abs=1e-12)


def test_an_interval_of_nothing():
    assert wilson([0], [0]).tolist() == [[0.0], [1.0]]
    assert interval_metrics(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]), [200, 50, 5])["medium"] is None


def test_the_interval_of_a_mean_recall_covers_it():
    """Exact coverage over all outcomes of three uneven classes, near what 95 % promise; the pooled Wilson interval,
    which mistakes the mean recall for the share of right images, misses it nearly always.
    """
    images, recall = np.array([30, 6, 3]), np.array([0.9, 0.5, 0.2])
    chance = [stats.binom.pmf(np.arange(n + 1), n, p) for n, p in zip(images, recall, strict=True)]
    covered = pooled = 0.0
    for right in np.ndindex(*(images + 1)):
        weight = float(np.prod([chance[c][k] for c, k in enumerate(right)]))
        if weight < 1e-7:
            continue
        low, high = mean_recall_interval(right, images)
        covered += weight * (low <= recall.mean() <= high)
        low, high = wilson(sum(right), images.sum())
        pooled += weight * (low <= recall.mean() <= high)
    assert 0.93 < covered < 0.99
    assert pooled < 0.4


def test_calibration_error_by_hand():
    probabilities = [[0.95, 0.05], [0.85, 0.15], [0.65, 0.35], [0.4, 0.6]]
    # bins of width 1/2 are (0, 0.5] and (0.5, 1]: one bin, confidence 3.05/4, accuracy 3/4
    assert expected_calibration_error(probabilities, [0, 0, 0, 0], 2) == pytest.approx(abs(3.05 - 3) / 4)
    # bins of width 0.1: four different bins
    assert expected_calibration_error(probabilities, [0, 0, 0, 0], 10) == pytest.approx((0.05 + 0.15 + 0.35 + 0.6) / 4)


def test_a_confidence_on_a_bins_upper_edge_belongs_to_that_bin():
    # 0.5 lies in (0, 0.5], 0.9 in (0.5, 1]; in one common bin the two gaps would cancel to (0.5 + 0.9 - 1) / 2
    probabilities = [[0.5, 0.5], [0.9, 0.1]]
    assert expected_calibration_error(probabilities, [0, 1], 2) == pytest.approx((0.5 + 0.9) / 2)


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_top1_is_balanced_accuracy_on_a_balanced_test_set(num_classes, per_class, seed):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    probabilities = generator.dirichlet(np.ones(num_classes), size=len(labels))
    metrics = evaluate_predictions(probabilities, labels, list(range(1, num_classes + 1)), bins=15)
    assert metrics["top1"] == pytest.approx(metrics["balanced_accuracy"])
    assert all(0 <= value <= 1 for value in metrics.values() if value is not None)


def test_a_tie_goes_to_the_lowest_class():
    metrics = evaluate_predictions([[0.5, 0.5], [0.5, 0.5]], [0, 1], [10, 10], bins=5)
    assert metrics["top1"] == 0.5
    assert (metrics["many"], metrics["medium"], metrics["few"]) == (1.0, None, 0.0)


def test_a_class_without_test_images_is_left_out():
    recall = per_class_recall(confusion_counts([0, 0, 2], [0, 1, 2], 3))
    assert recall[0] == 0.5
    assert np.isnan(recall[1])
    metrics = evaluate_predictions(one_hot([0, 1, 2], 3), [0, 0, 2], [200, 50, 5], bins=5)
    assert metrics["medium"] is None
    assert metrics["balanced_accuracy"] == pytest.approx(0.75)


def test_diverged_predictions_are_told_in_one_line():
    probabilities = np.full((4, 2), 0.5)
    probabilities[1, 0] = np.nan
    with pytest.raises(UserError, match=r"1 of 4 predictions are NaN or infinite") as error:
        evaluate_predictions(probabilities, [0, 1, 0, 1], [3, 3], bins=5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "counts", "message"),
    [
        ([0], [1, 1], "must be"),
        ([0, 1], [1], "counts has 1"),
        ([0, 2], [1, 1], "allowed are 0 to 1"),
        ([-1, 1], [1, 1], "allowed are 0 to 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(labels, counts, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions([[0.5, 0.5], [0.2, 0.8]], labels, counts, bins=5)


class Fixed(torch.nn.Module):
    """Predicts the classes it is given, whatever the images."""

    in_channels = 1
    temperature, prior, class_thresholds, miss = 1.0, (1 / 3,) * 3, None, None

    def __init__(self, predictions):
        super().__init__()
        self.classifier = torch.nn.Linear(1, 3)
        self.predictions = predictions

    def forward(self, images):
        return self.classifier(images[:, :, 0, :1].flatten(1))

    def predict(self, images):
        chosen, self.predictions = self.predictions[: len(images)], self.predictions[len(images) :]
        return torch.eye(3)[torch.tensor(chosen)]


def test_images_that_adaptation_puts_right_or_wrong_are_counted_by_class(tmp_path):
    """Of class 0 one is gained and one lost, which recall does not show; of class 2 two are gained."""
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    before, after = [0, 1, 0, 1, 1, 0, 0, 2], [1, 0, 0, 1, 1, 2, 2, 2]
    test = Part(np.zeros((8, 1, 4, 4), np.uint8), labels, ("a", "b", "c"))
    measured = evaluate({"retrained": Fixed(before), "adapted": Fixed(after)}, test, [30, 20, 10], 3, 15)
    assert measured.gained.tolist() == [1, 0, 2] and measured.lost.tolist() == [1, 0, 0]
    assert measured.recall["retrained"][0] == measured.recall["adapted"][0] == 2 / 3
    write_per_class(tmp_path / "per_class.csv", measured, test.classes, [30, 20, 10])
    lines = (tmp_path / "per_class.csv").read_text().splitlines()
    ends = [f"recall_{name}{end}" for name in ("retrained", "adapted") for end in ("", "_low", "_high")]
    assert lines[0] == ",".join(["class,name,count,test_images", *ends, "gained,lost"])
    assert measured.metrics["intervals"]["adapted"]["top1"] == pytest.approx(
        list(stats.binomtest(7, 8).proportion_ci(method="wilson"))
    )
    assert lines[1].endswith(",1,1") and lines[3].endswith(",2,0")
    files = [f"b/{i}, ü.png" for i in range(8)]
    write_predictions(tmp_path / "predictions.csv", measured, test, files)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open(encoding="utf-8")))
    assert [row["file"] for row in rows] == files * 2
    assert [row["model"] for row in rows] == ["retrained"] * 8 + ["adapted"] * 8
    assert [row["prediction"] for row in rows] == ["abc"[c] for c in before + after]
    assert [row["label"] for row in rows] == ["abc"[c] for c in labels] * 2
    assert rows[1] | {"model": ""} == {"model": "", "image": "1", "file": files[1], "label": "a", "prediction": "b"} | {
        "probability": "1",
        "a": "0",
        "b": "1",
        "c": "0",
    }
