"""Cross-validation: every image is tested once, by networks that were not trained on it (Stone, 1974)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tailnas.data.grouped_parts import grouped_parts
from tailnas.foundation.seeding import numpy_generator


def fold_of_each(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, num_classes: int
) -> NDArray[np.int64]:
    """The fold, int64 (N,) in 0..folds-1, that tests each image; the same for every seed of a study.

    labels: (N,) in 0..num_classes-1; groups: (N,) numbers of images that stay together. Without groups a class's images
    are dealt out in a random order, so that folds differ by one of them at most, and the folds that get one more
    differ from class to class. Groups go as a whole to the fold that lacks most of what they hold.
    """
    if len(np.unique(groups)) < len(groups):
        targets = np.tile(np.bincount(labels, minlength=num_classes) / folds, (folds, 1))
        generator = numpy_generator(0, "split", "folds", "groups")
        return grouped_parts(labels, groups, targets, np.zeros((folds, num_classes), np.int64), generator)
    fold, dealt = np.empty(len(labels), np.int64), 0
    for c in range(num_classes):
        order = numpy_generator(0, "split", "folds", c).permutation(np.flatnonzero(labels == c))
        fold[order] = (dealt + np.arange(len(order))) % folds
        dealt += len(order)
    return fold


def with_copies(groups: NDArray[np.int64], digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """`groups` (N,), joined where images of equal digests (N, 16) lie in several: copies are tested together."""
    _, same = np.unique(digests, axis=0, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    size = int(group.max()) + 1
    ties = coo_array((np.ones(len(group)), (group, size + same.ravel())), shape=[size + int(same.max()) + 1] * 2)
    return connected_components(ties, directed=False)[1][group].astype(np.int64)
