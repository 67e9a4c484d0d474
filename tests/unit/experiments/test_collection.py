"""Learning curves of data that follow a known one, and nested subsets."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from benchmarks.collection import PARTS, SUBSETS, kept_parts, plan, sentences, subset
from benchmarks.learning_curve import fit_curve
from benchmarks.target import Target
from tailnas.validate.presets import load_preset

CLASSES = 6
FULL = np.array([200, 100, 50, 25, 12, 8])


def simulated(generator, tested, slope=0.8, other=0.1, rate=None):
    """Points of every class in eight subsets whose errors follow the curve (or `rate`, of images alone)."""
    labels = np.tile(np.arange(CLASSES), SUBSETS)
    images = np.round(kept_parts(CLASSES, 0) * FULL).clip(2)
    own, others = images.ravel(), (images.sum(1, keepdims=True) - images).ravel()
    start = np.linspace(0.0, 1.5, CLASSES)[labels]
    error = expit(start - slope * np.log(own) + other * np.log(others)) if rate is None else rate(own)
    hits = tested - (generator.binomial(tested, error) if generator is not None else tested * error)
    return (labels.tolist(), own, others, hits, np.full(len(labels), tested), CLASSES), start


def test_the_curve_that_made_the_points_is_found():
    points, start = simulated(None, 10**7)
    curve = fit_curve(*points)
    assert curve.exponent == pytest.approx(0.8, abs=1e-3)
    assert curve.coefficients[:CLASSES] == pytest.approx(start[:CLASSES], abs=1e-2)
    found = curve.expected(5, 208, 387)
    assert found.recall == pytest.approx(1 - expit(1.5 - 0.8 * np.log(208) + 0.1 * np.log(387)), abs=1e-4)


def test_a_power_law_of_the_error_is_extrapolated():
    """e = 0.9 n^-0.5 of every class: with 208 images 0.938 are right, twenty-six times as many as any had less."""
    points, _ = simulated(None, 10**6, rate=lambda own: 0.9 * own**-0.5)
    assert fit_curve(*points).expected(5, 208, 387).recall == pytest.approx(1 - 0.9 * 208**-0.5, abs=0.02)


def test_intervals_hold_what_they_promise():
    """95 % of 400 simulated studies of 40 test images a class; 0.93 to 0.97 is two standard errors."""
    truth = 1 - expit(1.5 - 0.8 * np.log(58) + 0.1 * np.log(387))
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = fit_curve(*simulated(generator, 40)[0]).expected(5, 58, 387)
        held += found.low <= truth <= found.high
    assert 0.925 <= held / 400 <= 0.985


def test_trainings_that_vary_widen_the_interval():
    points, _ = simulated(np.random.default_rng(1), 400)
    hits = np.clip(points[3] + np.random.default_rng(2).normal(0, 40, len(points[3])).round(), 0, 400)
    calm, wild = (fit_curve(*points[:3], of, *points[4:]).expected(5, 58, 387) for of in (points[3], hits))
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


def test_a_class_that_is_never_missed_stays_finite_and_too_few_points_are_refused():
    labels, own, others, hits, tested, classes = simulated(np.random.default_rng(3), 40)[0]
    hits = np.where(np.asarray(labels) == 0, 40, hits)
    found = fit_curve(labels, own, others, hits, tested, classes).expected(0, 400, 200)
    assert 0.9 < found.low <= found.recall <= found.high <= 1
    with pytest.raises(ValueError, match="5 points for 8 coefficients"):
        fit_curve(labels[:5], own[:5], others[:5], hits[:5], tested[:5], classes)


def test_subsets_are_nested_and_vary_each_class_by_itself():
    target = Target.load(load_preset(Path("presets/collection.yaml")), "cpu")
    parts = kept_parts(target.classes, 0)
    assert parts.shape == (SUBSETS, 10) and set(parts.ravel()) == set(PARTS) and (parts[-1] == 1).all()
    assert len({tuple(row) for row in parts}) == SUBSETS  # the same subset twice would count twice
    assert np.abs(np.corrcoef(np.log(parts[:-1]).T) - np.eye(10)).min() < 0.5
    labels = target.data.train_labels
    rows = [np.concatenate([*subset(target, 0, part).values()]) for part in parts]
    for label in range(10):
        own = [set(some[labels[some] == label].tolist()) for some in rows]
        by_size = sorted(own, key=len)
        assert all(small <= large for small, large in pairwise(by_size))
    assert set(rows[-1].tolist()) == set(np.concatenate([target.split(0).half(h) for h in ("weight", "architecture")]))


def test_the_plan_is_a_sentence_for_each_class_and_number():
    labels, own, others, hits, tested, _ = simulated(np.random.default_rng(0), 40)[0]
    numbers = np.repeat(np.arange(SUBSETS), CLASSES)
    columns = {"subset": numbers, "class": labels, "images": own, "others": others, "hits": hits, "tested": tested}
    curve = fit_curve(labels, own, others, hits, tested, CLASSES)
    table = plan(curve, pd.DataFrame(columns), "abcdef", [200])
    said = sentences(table)
    more, now = curve.expected(5, 208, 387), curve.expected(5, 8, 387)
    assert said[0] == (
        f"200 more images of class f: expected recall {more.recall:.2f} [{more.low:.2f}, {more.high:.2f}]; "
        f"with its 8 images {now.recall:.2f} [{now.low:.2f}, {now.high:.2f}]"
    )
    assert len(said) == CLASSES and said[-1].startswith("200 more images of class a")
