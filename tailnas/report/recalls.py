"""How exactly recalls are known from the test images, pooled over the runs of a method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailnas.evaluate.intervals import mean_recall_interval, wilson
from tailnas.evaluate.metrics import GROUPS, shot_groups
from tailnas.report.runs import MODELS, Factor, Results

ROW_METRICS = ("top1", "balanced_accuracy", *GROUPS)


@dataclass(frozen=True)
class Known:
    """A share and its 95 % interval; NaN where no test image tells."""

    share: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """1 where nothing is known."""
        return 1.0 if np.isnan(self.share) else self.high - self.low


@dataclass(frozen=True)
class Pooled:
    """Test images of each class and those of them that are right, (K,) each; counts: training images."""

    right: NDArray[np.float64]
    images: NDArray[np.float64]
    counts: tuple[int, ...]

    def of_class(self, c: int) -> Known:
        """Recall of one class, with Wilson's interval."""
        low, high = wilson(self.right[c], self.images[c])
        return Known(float(self.right[c] / self.images[c]) if self.images[c] else np.nan, float(low), float(high))

    def of(self, metric: str) -> Known:
        """top1, balanced_accuracy, or the mean recall of a group of classes."""
        if metric == "top1":
            low, high = wilson(self.right.sum(), self.images.sum())
            return Known(float(self.right.sum() / self.images.sum()), float(low), float(high))
        groups = shot_groups(self.counts)
        chosen = np.arange(len(self.counts)) if metric == "balanced_accuracy" else np.asarray(getattr(groups, metric))
        tested = chosen[self.images[chosen] > 0] if len(chosen) else chosen
        if not len(tested):
            return Known(np.nan, np.nan, np.nan)
        recall = self.right[tested] / self.images[tested]
        return Known(float(recall.mean()), *mean_recall_interval(self.right[tested], self.images[tested]))


def pooled(results: Results, factor: Factor, method: str, model: str) -> Pooled | None:
    """What the test images say of a method, whatever number of networks they were shown to.

    Seeds and retrain seeds are tested on the same images and count as their mean; folds are tested on different ones,
    which add up to the whole data set. None where seeds order the classes differently, so that a class is common in one
    run and rare in the next.
    """
    runs = results.of(method, factor)
    if not results.folds and len({run.counts for run in runs}) > 1:
        return None
    matrices = np.stack([run.confusion[model] for run in runs])
    same = len(results.retrain_seeds) if results.folds else len(runs)
    counts = np.mean([run.counts for run in runs], axis=0).round().astype(int)
    total = matrices.sum(axis=0) / same
    return Pooled(np.diag(total), total.sum(axis=1), tuple(counts.tolist()))


@dataclass(frozen=True)
class RecallRow:
    """One method and network: what is known of each of ROW_METRICS."""

    method: str
    model: str
    known: list[Known]


def recall_rows(results: Results, factor: Factor) -> list[RecallRow]:
    """One for each method and network at one imbalance factor whose runs can be pooled."""
    return [
        RecallRow(method, model, [found.of(metric) for metric in ROW_METRICS])
        for method in results.methods
        for model in MODELS
        if (found := pooled(results, factor, method, model)) is not None
    ]
