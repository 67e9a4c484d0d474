"""Long-tailed training sets, and their two stratified halves for the architecture search."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailnas.data.grouped_parts import grouped_parts
from tailnas.data.split_file import HALVES, Split
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import numpy_generator

SMALLEST_HALF = 2
"""Images of a class that each half needs where the tail is made, so that no class is a single image there."""

SMALLEST_NATURAL_HALF = 1
"""Likewise where the data keeps its own tail: rare images are not thrown away."""


def class_counts(n_max: int, num_classes: int, imbalance_factor: float, profile: str = "exp") -> list[int]:
    """Number of images for each class, from the most to the least frequent.

    `exp`: int(n_max * IF^(-c / (K - 1))) for c = 0..K-1; `step`: n_max for the first K // 2 classes, int(n_max / IF)
    for the rest (Cui et al. 2019, Cao et al. 2019). IF is n_max / n_min. The truncation is that of the exact value:
    49 images at IF 49 leave one image, though 49 * (1 / 49) < 1 in floating point. A count may be 0.

    Raises ValueError for n_max < 1, fewer than two classes, IF < 1 or not finite, or a profile without a formula.
    """
    n_max = _whole("n_max", n_max, at_least=1)
    num_classes = _whole("num_classes", num_classes, at_least=2)
    factor = _factor(imbalance_factor)
    if profile == "exp":
        return [_truncated(n_max / factor ** (c / (num_classes - 1))) for c in range(num_classes)]
    if profile == "step":
        heads = num_classes // 2
        return [n_max] * heads + [_truncated(n_max / factor)] * (num_classes - heads)
    if profile == "natural":
        raise ValueError("profile: 'natural' has no formula, its counts are those of the data; allowed: exp, step")
    raise ValueError(f"profile: {profile!r}; allowed: exp, step")


def _whole(name: str, value: Any, at_least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < at_least:
        raise ValueError(f"{name}: {value!r}; allowed: whole numbers from {at_least}")
    return number


def _factor(value: Any) -> float:
    try:
        factor = float(value)
    except (TypeError, ValueError, OverflowError):
        factor = math.nan
    if isinstance(value, bool | str) or not (math.isfinite(factor) and factor >= 1):
        raise ValueError(f"imbalance_factor: {value!r}; allowed: finite numbers from 1")
    return factor


def _truncated(value: float) -> int:
    nearest = round(value)
    return nearest if abs(value - nearest) <= 1e-12 * max(1, nearest) else int(value)


def planned_counts(
    available: Sequence[int],
    imbalance_factor: float | str,
    profile: str,
    class_order: str,
    n_max: int | None,
    seed: int,
    classes: Sequence[str] | None = None,
) -> list[int]:
    """Images that the long-tailed set keeps of each class, checked against what there is; entry c is class c's.

    available: training images of each class. n_max: size of the largest class, None for the smallest of `available`.
    Both n_max and imbalance_factor are of no effect for `natural`, which keeps everything. class_order: `given` makes
    class 0 the head, `shuffled` draws the order from `seed` alone, so every imbalance factor ranks the classes alike.

    Raises UserError where a class has too few images, or is left with fewer than two in a search half (one for
    `natural`).
    """
    names = [str(c) for c in range(len(available))] if classes is None else list(classes)
    least = 2 * SMALLEST_HALF
    if profile == "natural":
        least = 2 * SMALLEST_NATURAL_HALF
        for name, count in zip(names, available, strict=True):
            if count < least:
                raise UserError(
                    f"split.profile: natural leaves class {name!r} with {count} image(s), but each search half "
                    f"needs {SMALLEST_NATURAL_HALF}; allowed: at least {least} training images in every class "
                    "(add images, or lower data.target.test_per_class)"
                )
        return [int(count) for count in available]

    size = int(min(available)) if n_max is None else n_max
    try:
        factor = _factor(imbalance_factor)
        by_rank = class_counts(size, len(available), factor, profile)
    except ValueError as error:
        raise UserError(f"split: {error}") from None
    counts = [0] * len(available)
    for rank, c in enumerate(_class_ranking(len(available), class_order, seed)):
        counts[c] = by_rank[rank]
    for name, count, there in zip(names, counts, available, strict=True):
        if count < least:
            raise UserError(
                f"study.imbalance_factors: {factor:g} leaves class {name!r} with {count} image(s) of a "
                f"largest class of {size}, but {SMALLEST_HALF} are needed in each search half; allowed: "
                f"{_largest_factor(size, least)} (or raise split.n_max, or lower data.target.test_per_class)"
            )
        if count > there:
            raise UserError(
                f"split.n_max: {size} asks for {count} images of class {name!r}, which has {there} for training; "
                f"allowed: up to {min(available)} for every class order (or null), or lower data.target.test_per_class"
            )
    return counts


def _largest_factor(n_max: int, least: int) -> str:
    return f"1 to {math.floor(100 * n_max / least) / 100:g}" if n_max >= least else f"no factor below {least} images"


def _class_ranking(num_classes: int, class_order: str, seed: int) -> list[int]:
    if class_order == "given":
        return list(range(num_classes))
    return numpy_generator(seed, "split", "class order").permutation(num_classes).tolist()


def long_tailed_split(
    labels: ArrayLike,
    num_classes: int,
    imbalance_factor: float | str,
    profile: str,
    class_order: str,
    n_max: int | None,
    seed: int,
    classes: Sequence[str] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Split:
    """Keep a seeded choice of images of each class and cut each class into two halves.

    labels: (N,) integers below `num_classes`, one for each training image; groups: (N,) numbers of images that stay
    together, None where each is by itself; the other arguments as in `planned_counts`, whose errors are raised. Without
    groups a class is cut into halves that differ by at most one image; the odd
    images go to the two halves in turn, starting with a seeded one. With equal seeds, the images kept at a larger
    imbalance factor are a subset of those kept at a smaller one.
    """
    known = _checked_labels(labels, num_classes)
    available = np.bincount(known, minlength=num_classes)
    counts = planned_counts(available.tolist(), imbalance_factor, profile, class_order, n_max, seed, classes)
    extra = int(numpy_generator(seed, "split", "odd images").integers(2))
    indices, halves = [], []
    for c, count in enumerate(counts):
        order = numpy_generator(seed, "split", "images", c).permutation(np.flatnonzero(known == c))
        kept = order[:count]
        first = 0
        if count % 2:
            first, extra = extra, 1 - extra
        indices.append(kept)
        halves.append((np.arange(count) + first) % 2)
    rows = np.concatenate(indices).astype(np.int64)
    by_row = np.argsort(rows)
    rows = rows[by_row]
    half = np.concatenate(halves)[by_row]
    if groups is not None and len(np.unique(groups[rows])) < len(rows):
        half = _whole_groups(known[rows], groups[rows], num_classes, seed, classes)
    return Split(rows, known[rows], np.array(HALVES)[half], num_classes)


def _whole_groups(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
    seed: int,
    classes: Sequence[str] | None,
) -> NDArray[np.int64]:
    """The half, 0 or 1, of each image where groups stay together. Raises UserError for a class of one group."""
    targets = np.tile(np.bincount(labels, minlength=num_classes) / 2, (2, 1))
    generator = numpy_generator(seed, "split", "groups")
    half = grouped_parts(labels, groups, targets, np.ones((2, num_classes), np.int64), generator)
    for c in range(num_classes):
        if len(set(half[labels == c].tolist())) < 2:
            name = str(c) if classes is None else classes[c]
            raise UserError(
                f"data.target.group: the training images of class {name!r} cannot be cut into two halves of whole "
                "groups; allowed: images of at least 2 groups in every class"
            )
    return half


def _checked_labels(labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    known = np.asarray(labels)
    if known.ndim != 1 or known.size == 0 or known.dtype.kind not in "iu":
        raise ValueError(f"labels: {known.dtype} of shape {known.shape}; allowed: integers (N,), N >= 1")
    if known.min() < 0 or known.max() >= num_classes:
        raise ValueError(f"labels: {known.min()} to {known.max()}; allowed: 0 to {num_classes - 1}")
    return known.astype(np.int64)
