from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tailnas.report.findings.best import best_model
from tailnas.report.findings.told import told_findings
from tailnas.report.recalls import pooled


def with_test_images(run, images):
    """The run with `images[c]` test images of class c, all right but one where there are two or more."""
    right = np.maximum(images - (images > 1), 0)
    matrix = np.diag(right)
    matrix[np.arange(len(images)), (np.arange(len(images)) + 1) % len(images)] += images - right
    return replace(run, confusion=dict.fromkeys(run.confusion, matrix))


UNEVEN = np.array([120, 40, 20, 20, 10, 9, 4, 2, 1, 0])


def test_classes_that_cannot_be_told_are_named_with_their_intervals(make_results):
    even = make_results(methods=("random",))
    results = replace(even, runs=tuple(with_test_images(run, UNEVEN) for run in even.runs))
    (finding,) = told_findings(results, 30)
    assert finding.kind == "open"
    assert "recall of 5 of 10 classes cannot be told: its 95 % interval is wider than 40 points" in finding.text
    (run,) = results.runs
    low, high = stats.binomtest(8, 9).proportion_ci(method="wilson")
    assert high - low > 0.4
    assert f"{run.classes[5]} (9 test images: {100 * low:.0f} to {100 * high:.0f} %)" in finding.text
    assert f"{run.classes[9]} (no test image)" in finding.text
    assert "split.folds would tell" in finding.text
    assert told_findings(even, 30) == []


def test_seeds_count_as_their_mean_and_folds_add_up(make_results):
    results = make_results(methods=("random",), seeds=(0, 1), retrain_seeds=(0, 1))
    counts = results.runs[0].counts
    runs = tuple(replace(run, counts=counts) for run in results.runs)
    same, folds = replace(results, runs=runs), replace(results, runs=runs, folds=True)
    matrices = np.stack([run.confusion["adapted"] for run in runs])
    right = np.diagonal(matrices, axis1=1, axis2=2)
    one, every = (pooled(given, 30, "random", "adapted") for given in (same, folds))
    assert one.images.tolist() == [50] * 10 and every.images.tolist() == [100] * 10
    assert one.right == pytest.approx(right.mean(axis=0)) and every.right == pytest.approx(right.sum(axis=0) / 2)
    assert one.of("balanced_accuracy").share == every.of("balanced_accuracy").share
    assert every.of_class(3).width < one.of_class(3).width


def test_classes_in_another_order_are_not_pooled(make_results):
    results = make_results(methods=("random",), seeds=(0, 1))
    first, second = results.runs
    results = replace(results, runs=(first, replace(second, counts=tuple(reversed(first.counts)))))
    assert pooled(results, 30, "random", "adapted") is None
    assert told_findings(results, 30) == []


def test_the_best_model_is_the_first_run_of_the_best_kind(make_results):
    """A method that is best on average, whichever run is the luckiest."""
    results = make_results(methods=("darts", "random"), seeds=(0, 1))
    values = {("darts", 0): 0.99, ("darts", 1): 0.1, ("random", 0): 0.6, ("random", 1): 0.8}

    def scored(run):
        adapted = {**run.metrics["adapted"], "balanced_accuracy": values[run.method, run.seed]}
        return replace(run, metrics={"retrained": {**adapted, "balanced_accuracy": 0.3}, "adapted": adapted})

    run, model, mean = best_model(replace(results, runs=tuple(map(scored, results.runs))))
    assert (run.name, model) == ("random-30-0-0", "adapted")
    assert mean == pytest.approx(0.7)


def test_folds_are_judged_by_all_their_images(make_results):
    """One fold lacks a class, so that the mean over folds is none of the whole."""
    results = make_results(methods=("random",), seeds=(0, 1))
    first, second = (
        with_test_images(run, images) for run, images in zip(results.runs, (UNEVEN, 50 - UNEVEN // 3), strict=True)
    )
    runs = (first, replace(second, counts=first.counts))
    _, _, mean = best_model(replace(results, runs=runs, folds=True))
    total = UNEVEN + (50 - UNEVEN // 3)
    wrong = (UNEVEN > 1).astype(int) + 1
    assert mean == pytest.approx((1 - wrong / total).mean())
