"""Metrics of one classifier on one test set, as fractions from 0 to 1 (method 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from tailnas.calibration.errors import expected_calibration_error
from tailnas.evaluate.intervals import mean_recall_interval, wilson
from tailnas.foundation.errors import UserError

MANY_ABOVE = 100
FEW_BELOW = 20
GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Groups:
    """Class indices by number of training images, each tuple in ascending order.

    `rule` is "counts" for the field's bounds (more than 100, 20 to 100, fewer than 20 training images) and "thirds"
    where one of those groups would be empty: then the classes, sorted by size, are cut in three (two classes leave
    `medium` empty, one class leaves `few` empty too). Figures under different rules must not be averaged.
    """

    rule: Literal["counts", "thirds"]
    many: tuple[int, ...]
    medium: tuple[int, ...]
    few: tuple[int, ...]

    @property
    def by_class(self) -> dict[int, str]:
        """The name of each class's group."""
        return {index: name for name in GROUPS for index in getattr(self, name)}


def shot_groups(counts: Sequence[int]) -> Groups:
    """Many-, medium- and few-shot classes; counts: (K,) training images per class."""
    sizes = np.asarray(counts)
    groups = (
        np.flatnonzero(sizes > MANY_ABOVE),
        np.flatnonzero((sizes >= FEW_BELOW) & (sizes <= MANY_ABOVE)),
        np.flatnonzero(sizes < FEW_BELOW),
    )
    if all(len(group) for group in groups):
        return Groups("counts", *(tuple(map(int, group)) for group in groups))
    by_size = np.argsort(-sizes, kind="stable")
    thirds = np.array_split(by_size, 3)
    if len(sizes) == 2:
        thirds = [by_size[:1], by_size[:0], by_size[1:]]
    return Groups("thirds", *(tuple(sorted(map(int, third))) for third in thirds))


def confusion_counts(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Images of each true class (row) predicted as each class (column): int64 (K, K)."""
    return confusion_matrix(labels, predictions, labels=np.arange(num_classes))


def per_class_recall(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Recall of each class, float64 (K,), from `confusion_counts`; NaN for a class that has no test image."""
    images = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), images, out=np.full(len(images), np.nan), where=images > 0)


def evaluate_predictions(
    probabilities: ArrayLike, labels: ArrayLike, counts: Sequence[int], bins: int
) -> dict[str, float | None]:
    """The metrics of one classifier.

    Args:
        probabilities: (N, K), rows summing to 1; a tie goes to the lowest class index.
        labels: (N,) true class indices.
        counts: (K,) images per class that the classifier was trained on; they define the shot groups.
        bins: number of confidence bins of the calibration error.

    Returns:
        top1, balanced_accuracy, macro_f1, ece, and many, medium, few (mean recall of the group's classes; None for
        a group without a class in the test set). top1 and ece are over the test images as they are; macro_f1 weighs
        them so that each class of the test set counts alike, since precision depends on how common classes are.

    Raises:
        UserError: a probability is NaN or infinite, so the network has diverged.
        ValueError: the arguments do not fit together.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise ValueError(f"probabilities {scores.shape} and labels {truth.shape} must be (N, K) and (N,) with N >= 1")
    num_classes = scores.shape[1]
    if len(counts) != num_classes:
        raise ValueError(f"counts has {len(counts)} classes, probabilities have {num_classes}")
    if truth.min() < 0 or truth.max() >= num_classes:
        raise ValueError(f"labels run from {truth.min()} to {truth.max()}; allowed are 0 to {num_classes - 1}")
    if not np.isfinite(scores).all():
        raise UserError(
            f"{int((~np.isfinite(scores)).any(axis=1).sum())} of {len(truth)} predictions are NaN or infinite; "
            "every probability must be finite (the training diverged: lower the learning rate)"
        )
    predictions = scores.argmax(axis=1)
    recall = per_class_recall(confusion_counts(truth, predictions, num_classes))
    images = np.bincount(truth, minlength=num_classes)
    weight = images.max() / images[truth]
    groups = shot_groups(counts)
    return {
        "top1": float(accuracy_score(truth, predictions)),
        "balanced_accuracy": float(np.nanmean(recall)),
        "macro_f1": float(
            f1_score(
                truth,
                predictions,
                labels=np.unique(truth),
                average="macro",
                zero_division=0,
                sample_weight=weight,
            )
        ),
        "ece": expected_calibration_error(scores, truth, bins),
        **{name: _mean_recall(recall, getattr(groups, name)) for name in GROUPS},
    }


def interval_metrics(confusion: NDArray[np.int64], counts: Sequence[int]) -> dict[str, list[float] | None]:
    """95 % intervals [low, high] of top1, balanced_accuracy, many, medium and few, by the test images alone.

    confusion: (K, K) as from `confusion_counts`. None for a group without a class in the test set.
    """
    right, images = np.diag(confusion), confusion.sum(axis=1)
    groups = shot_groups(counts)
    found: dict[str, list[float] | None] = {"top1": wilson(right.sum(), images.sum()).tolist()}
    every = tuple(range(len(images)))
    for name, classes in {"balanced_accuracy": every, **{group: getattr(groups, group) for group in GROUPS}}.items():
        chosen = np.asarray(classes, np.int64)
        known = bool(images[chosen].any())
        found[name] = list(mean_recall_interval(right[chosen], images[chosen])) if known else None
    return found


def _mean_recall(recall: NDArray[np.float64], classes: Sequence[int]) -> float | None:
    present = [float(recall[index]) for index in classes if np.isfinite(recall[index])]
    return float(np.mean(present)) if present else None
