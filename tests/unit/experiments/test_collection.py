"""Learning curves of data that follow a known one, and nested subsets."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.collection import PARTS, SUBSETS, kept_parts, plan, sentences, subset
from benchmarks.learning_curve import SLOPE_SD, error_of, fit_curve
from benchmarks.target import Target
from tailnas.validate.presets import load_preset

CLASSES = 6
FULL = np.array([200, 100, 50, 25, 12, 8])


def simulated(generator, tested, slopes=(0.8,) * CLASSES, other=0.1, rate=None):
    """Points of every class in eight subsets whose errors follow the curve (or `rate`, of images alone)."""
    labels = np.tile(np.arange(CLASSES), SUBSETS)
    images = np.round(kept_parts(CLASSES, 0) * FULL).clip(2)
    own, others = images.ravel(), (images.sum(1, keepdims=True) - images).ravel()
    start = np.linspace(0.0, 1.5, CLASSES)[labels]
    error = (
        error_of(start - np.asarray(slopes)[labels] * np.log(own) + other * np.log(others))
        if rate is None
        else rate(own)
    )
    hits = tested - (generator.binomial(tested, error) if generator is not None else tested * error)
    return (labels.tolist(), own, others, hits, np.full(len(labels), tested), CLASSES), start


def test_the_curve_that_made_the_points_is_found():
    points, start = simulated(None, 10**7)
    curve = fit_curve(*points)
    assert curve.exponent == pytest.approx(0.8, abs=1e-3)
    assert curve.coefficients[:CLASSES] == pytest.approx(start[:CLASSES] - 0.8 * curve.centres, abs=1e-2)
    assert curve.coefficients[-1] == pytest.approx(0.1, abs=1e-3)
    found = curve.expected(5, 208, 387)
    assert found.recall == pytest.approx(1 - error_of(1.5 - 0.8 * np.log(208) + 0.1 * np.log(387)), abs=1e-4)


def test_a_power_law_of_the_error_is_extrapolated():
    """e = 0.9 n^-0.5 of every class: with 208 images 0.938 are right, twenty-six times as many as any had less."""
    points, _ = simulated(None, 10**6, rate=lambda own: 0.9 * own**-0.5)
    assert fit_curve(*points).expected(5, 208, 387).recall == pytest.approx(1 - 0.9 * 208**-0.5, abs=0.01)


def test_intervals_hold_what_they_promise():
    """95 % of 400 simulated studies of 40 test images per class whose exponents differ as the curve supposes."""
    generator = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(400):
        slopes = generator.normal(0.8, SLOPE_SD, CLASSES)
        curve = fit_curve(*simulated(generator, 40, slopes)[0])
        for place, images in enumerate((58, 208)):
            truth = 1 - error_of(1.5 - slopes[5] * np.log(images) + 0.1 * np.log(387))
            found = curve.expected(5, images, 387)
            held[place] += found.low <= truth <= found.high
    assert (held / 400 >= 0.93).all() and (held / 400 <= 0.985).all()


def test_an_interval_widens_as_it_leaves_a_classs_own_images():
    curve = fit_curve(*simulated(np.random.default_rng(0), 4000)[0])
    odds = [np.log((1 - found.low) / (1 - found.high)) for found in (curve.expected(5, n, 387) for n in (8, 40, 200))]
    assert odds[0] < odds[1] / 2 < odds[2] / 3


def test_trainings_that_vary_widen_the_interval():
    points, _ = simulated(np.random.default_rng(1), 400)
    hits = np.clip(points[3] + np.random.default_rng(2).normal(0, 40, len(points[3])).round(), 0, 400)
    calm, wild = (fit_curve(*points[:3], of, *points[4:]).expected(1, 100, 295) for of in (points[3], hits))
    assert wild.high - wild.low > 2 * (calm.high - calm.low)


def test_a_class_that_is_never_missed_stays_finite_and_too_few_points_are_refused():
    labels, own, others, hits, tested, classes = simulated(np.random.default_rng(3), 40)[0]
    hits = np.where(np.asarray(labels) == 0, 40, hits)
    found = fit_curve(labels, own, others, hits, tested, classes).expected(0, 400, 200)
    assert 0.9 < found.low <= found.recall <= found.high <= 1
    with pytest.raises(ValueError, match="5 points for 6 classes"):
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
