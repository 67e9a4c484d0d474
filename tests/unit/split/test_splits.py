import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailnas.data.split_file import HALVES
from tailnas.foundation.errors import UserError
from tailnas.split.folds import fold_of_each, with_copies
from tailnas.split.long_tail import class_counts, long_tailed_split, planned_counts


def test_truncation_is_of_the_exact_value() -> None:
    assert int(49 * (1 / 49)) == 0
    assert class_counts(49, 3, 49) == [49, 7, 1]
    assert class_counts(49, 2, 49, "step") == [49, 1]


@pytest.mark.parametrize("times", [1, 7, 1000])
def test_powers_are_divided_exactly(times: int) -> None:
    """Where every count is whole: some of these lie just below the whole number in floating point."""
    below = 0
    for base in range(2, 30):
        for power in range(2, 7):
            size, whole = times * base**power, [times * base ** (power - c) for c in range(power + 1)]
            assert class_counts(size, power + 1, base**power) == whole
            below += sum(int(size / (base**power) ** (c / power)) < n for c, n in enumerate(whole))
    assert below
    assert class_counts(10**6, 2, 10**6 / (10**6 - 1e-4))[1] == 10**6 - 1, "just below by more than rounding"


@given(st.integers(1, 100_000), st.integers(2, 60), st.integers(1, 1000))
def test_exponential_counts_are_the_floor_of_the_formula(n_max: int, num_classes: int, factor: int) -> None:
    for c, count in enumerate(class_counts(n_max, num_classes, factor)):
        # n <= n_max * IF^(-c / (K - 1)) < n + 1, in whole numbers
        bound = Fraction(n_max) ** (num_classes - 1) / Fraction(factor) ** c
        assert Fraction(count) ** (num_classes - 1) <= bound < Fraction(count + 1) ** (num_classes - 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 10, 10), "n_max"),
        ((True, 10, 10), "n_max"),
        ((5.5, 10, 10), "n_max"),
        (("5000", 10, 10), "n_max"),
        ((5000, 1, 10), "num_classes"),
        ((5000, 10, 0.5), "imbalance_factor"),
        ((5000, 10, math.nan), "imbalance_factor"),
        ((5000, 10, math.inf), "imbalance_factor"),
        ((5000, 10, None), "imbalance_factor"),
        ((5000, 10, "10"), "imbalance_factor"),
        ((5000, 10, 10, "natural"), "profile: 'natural' has no formula"),
        ((5000, 10, 10, "linear"), "profile: 'linear';"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}.* allowed: "):
        class_counts(*arguments)


@st.composite
def requests(draw: st.DrawFn) -> dict:
    sizes = draw(st.lists(st.integers(4, 90), min_size=2, max_size=12))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(draw(st.integers(0, 99))).shuffle(labels)
    return {
        "labels": labels,
        "num_classes": len(sizes),
        "imbalance_factor": draw(st.floats(1, min(sizes) / 4, allow_nan=False)),
        "profile": draw(st.sampled_from(["exp", "step", "natural"])),
        "class_order": draw(st.sampled_from(["shuffled", "given"])),
        "n_max": None,
        "seed": draw(st.integers(0, 2**31)),
    }


@settings(max_examples=200, deadline=None)
@given(requests())
def test_halves_are_disjoint_and_hold_the_splits_proportions(request: dict) -> None:
    split = long_tailed_split(**request)
    labels, k = request["labels"], request["num_classes"]
    assert len(set(split.indices.tolist())) == len(split.indices)
    assert (labels[split.indices] == split.labels).all()
    weight, architecture = map(split.half, HALVES)
    assert not set(weight.tolist()) & set(architecture.tolist())
    assert sorted([*weight, *architecture]) == split.indices.tolist()
    total = np.bincount(split.labels, minlength=k)
    if request["profile"] == "natural":
        assert total.tolist() == np.bincount(labels, minlength=k).tolist()
    else:
        n_max = np.bincount(labels).min()
        assert sorted(total, reverse=True) == class_counts(n_max, k, request["imbalance_factor"], request["profile"])
    for half in (weight, architecture):
        counts = np.bincount(labels[half], minlength=k)
        assert counts.min() >= 2
        assert np.abs(counts - total * len(half) / total.sum()).max() <= 1
        assert np.abs(2 * counts - total).max() <= 1
    assert abs(len(weight) - len(architecture)) <= 1
    by_half = [np.bincount(labels[half], minlength=k) for half in (weight, architecture)]
    assert (split.counts == np.stack([total, *by_half], 1)).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_lie_in_one_half_that_holds_every_class(data: st.DataObject) -> None:
    """Against a check of each group by itself; with groups of at most a tenth, halves differ by little."""
    classes, per_group = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 6))
    labels, groups = [], []
    for c in range(classes):
        sizes = data.draw(st.lists(st.integers(1, per_group), min_size=2, max_size=20))
        groups += np.repeat(100 * c + np.arange(len(sizes)), sizes).tolist()
        labels += [c] * sum(sizes)
    labels, groups = np.array(labels), np.array(groups)
    split = long_tailed_split(labels, classes, "natural", "natural", "given", None, 0, groups=groups)
    for group in set(groups.tolist()):
        assert len(set(split.halves[groups[split.indices] == group])) == 1
    assert split.counts.min() >= 1
    assert np.abs(split.counts[:, 1] - split.counts[:, 2]).max() <= per_group


def test_a_class_of_one_group_cannot_be_halved() -> None:
    groups = np.array([0, 1, 2, 2, 2])
    with pytest.raises(UserError, match=r"data\.target\.group: the training images of class 'rare' cannot be cut"):
        long_tailed_split(np.array([0, 0, 1, 1, 1]), 2, "natural", "natural", "given", None, 0, ("a", "rare"), groups)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_folds_test_every_image_once_and_groups_together(data: st.DataObject) -> None:
    folds, classes = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 4))
    labels = np.repeat(np.arange(classes), data.draw(st.lists(st.integers(1, 40), min_size=classes, max_size=classes)))
    alone = np.arange(len(labels))
    fold = fold_of_each(labels, alone, folds, classes)
    counts = np.stack([np.bincount(labels[fold == f], minlength=classes) for f in range(folds)])
    assert fold.min() >= 0 and fold.max() < folds
    assert np.ptp(counts, axis=0).max() <= 1 and np.ptp(counts.sum(axis=1)) <= 1
    size = data.draw(st.integers(2, 3))
    grouped = fold_of_each(labels, alone // size, folds, classes)
    assert all(len(set(grouped[alone // size == group].tolist())) == 1 for group in range(len(labels) // size))
    counts = np.stack([np.bincount(labels[grouped == f], minlength=classes) for f in range(folds)])
    assert np.ptp(counts, axis=0).max() <= 2 * size, "whole groups, nearly even"


def test_copies_are_one_group() -> None:
    """Chains of equal digests and equal groups tie images together; against the components by hand."""
    digests = np.zeros((7, 16), np.uint8)
    digests[:, 0] = [1, 2, 3, 1, 4, 5, 4]
    found = with_copies(np.array([0, 0, 2, 3, 3, 5, 6]), digests)
    assert len(set(found[[0, 1, 3, 4, 6]].tolist())) == 1
    assert len(set(found.tolist())) == 3


LABELS = np.tile(np.arange(6), 80)


def split_of(factor: float = 10, seed: int = 0, order: str = "shuffled", n_max: int | None = None):
    return long_tailed_split(LABELS, 6, factor, "exp", order, n_max, seed)


def test_seed_decides_the_split() -> None:
    assert (split_of(seed=1).indices == split_of(seed=1).indices).all()
    assert (split_of(seed=1).halves == split_of(seed=1).halves).all()
    assert split_of(seed=1).indices.tolist() != split_of(seed=2).indices.tolist()


def test_class_order_is_the_seeds_alone() -> None:
    assert split_of(order="given").counts[:, 0].tolist() == class_counts(80, 6, 10)
    ranks = {tuple(np.argsort(-split_of(factor, seed=3).counts[:, 0])) for factor in (3, 10, 20)}
    assert len(ranks) == 1
    assert len({tuple(np.argsort(-split_of(seed=seed).counts[:, 0])) for seed in range(8)}) > 4


def test_larger_factors_keep_subsets() -> None:
    assert set(split_of(20).indices) < set(split_of(5).indices)


def test_the_odd_images_start_with_either_half() -> None:
    odd = np.repeat([0, 1], [5, 6])
    firsts = {long_tailed_split(odd, 2, 1, "natural", "given", None, seed).counts[0, 1] for seed in range(12)}
    assert firsts == {2, 3}


def test_too_few_images_name_class_count_and_parameters() -> None:
    with pytest.raises(UserError) as caught:
        planned_counts([80, 90, 80], 21, "exp", "given", None, 0, ("cat", "dog", "great auk"))
    text = str(caught.value)
    assert "\n" not in text
    for part in ("study.imbalance_factors: 21", "'great auk'", "3 image", "allowed: 1 to 20 ", "split.n_max"):
        assert part in text


def test_no_factor_helps_a_tiny_class() -> None:
    with pytest.raises(UserError, match=r"1 leaves class '0' with 3 image.*allowed: no factor below 4 images"):
        planned_counts([3, 9], 1, "exp", "given", None, 0)


def test_a_class_of_the_smallest_size_allows_a_factor_of_one() -> None:
    with pytest.raises(UserError, match=r"2 leaves class '1' with 2 image.*allowed: 1 to 1 "):
        planned_counts([4, 9], 2, "exp", "given", None, 0)
    assert planned_counts([4, 9], 1, "exp", "given", None, 0) == [4, 4]


def test_groups_of_one_image_are_no_groups() -> None:
    plain = split_of()
    alone = long_tailed_split(LABELS, 6, 10, "exp", "shuffled", None, 0, groups=np.arange(len(LABELS)) + 5)
    assert (alone.indices == plain.indices).all() and (alone.halves == plain.halves).all()


def test_natural_too_few() -> None:
    with pytest.raises(UserError, match=r"split\.profile: natural leaves class 'b' with 1 image.*allowed: at least 2"):
        planned_counts([80, 1], 1, "natural", "given", None, 0, ("a", "b"))
    assert planned_counts([80, 2], 1, "natural", "given", None, 0) == [80, 2]


def test_n_max_beyond_a_class() -> None:
    with pytest.raises(UserError, match=r"split\.n_max: 81 asks for 81 images of class '0', which has 80"):
        split_of(order="given", n_max=81)


def test_n_max_may_exceed_what_tail_classes_have() -> None:
    assert planned_counts([100, 60, 12], 10, "exp", "given", 100, 0) == [100, 31, 10]


@pytest.mark.parametrize(
    "labels",
    [np.array(labels) for labels in ([0, 7], [0, 2], [-1, 1], [0.0, 1.0], [[0, 1]])] + [np.zeros(0, int)],
)
def test_bad_labels(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^labels: "):
        long_tailed_split(labels, 2, 1, "exp", "given", None, 0)
