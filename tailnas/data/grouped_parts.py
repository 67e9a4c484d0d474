"""Images cut into parts so that those that belong together stay together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def grouped_parts(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    targets: ArrayLike,
    least: ArrayLike,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """The part, int64 (N,) in 0..P-1, of each image; every group lies in one part.

    labels: (N,) in 0..K-1; groups: (N,) any numbers; targets: (P, K) images wanted of each class in each part; least:
    (P, K) groups of each class that a part has to get. Groups are dealt one by one, those with the rarest class first
    and the largest of them before the others, each to the part that lacks most of what the group holds. Where the
    groups left of a class just suffice for `least`, they go where it is not reached yet; with too few of them it
    stays unreached, and the caller has to look.
    """
    wanted, needed = np.asarray(targets, np.float64).copy(), np.asarray(least, np.int64).copy()
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    totals = np.bincount(labels, minlength=wanted.shape[1])
    held = [np.unique(labels[rows], return_counts=True) for rows in members]
    left = np.zeros(wanted.shape[1], np.int64)
    for classes, _ in held:
        left[classes] += 1
    drawn = generator.permutation(len(members)).tolist()
    drawn.sort(key=lambda group: (int(totals[held[group][0]].min()), -len(members[group])))
    parts = np.empty(len(labels), np.int64)
    for group in drawn:
        classes, counts = held[group]
        lacking = needed[:, classes]
        scarce = lacking.sum(axis=0) >= left[classes]
        allowed = (lacking[:, scarce] > 0).any(axis=1)
        room = (wanted[:, classes] * counts / totals[classes]).sum(axis=1)
        part = int(np.where(allowed if allowed.any() else True, room, -np.inf).argmax())
        parts[members[group]] = part
        wanted[part, classes] -= counts
        needed[part, classes] = np.maximum(needed[part, classes] - 1, 0)
        left[classes] -= 1
    return parts
