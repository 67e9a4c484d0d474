"""What every loss is and does; the losses are the files of tailnas/losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.foundation.extensions import Chosen
from tailnas.foundation.settings import Section
from tailnas.imbalance.class_weights import checked_counts

Settings = TypeVar("Settings", bound=Section)


class Loss(Generic[Settings]):
    """A loss of logits (N, K) and labels (N,), called as `torch.nn.functional.cross_entropy` is, which it is by itself.

    weight: of each class (K,), or None. reduction: `none` is the weighted loss of each image, (N,); `mean` is their sum
    over the sum of the labels' weights.
    """

    corrects_class_sizes = False
    """Whether classes count alike already, so that re-sampling or re-weighting beside it would correct twice."""

    feature_norm: float | None = None
    """Length to which the classifier's features are scaled; None leaves them as they are."""

    def __init__(self, settings: Settings, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> None:
        """counts: training images of each class, (K,), each at least 1. device: the logits'. Raises ValueError."""
        self.settings = settings
        self.counts = checked_counts(counts).cpu()
        self.device = device

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """The loss of the classifier's logits."""
        return cross_entropy(logits, labels, weight, reduction)

    def assumed_prior(self, drawn: Tensor) -> Tensor:
        """Class frequencies that predictions assume, (K,) of any scale, after training on batches where classes occur
        with frequencies `drawn` (K,): those, or those over the class sizes where the loss corrects for them.
        """
        return drawn / self.counts if self.corrects_class_sizes else drawn

    def auxiliary(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        """The loss of an auxiliary linear head's logits: the same, unless it needs a classifier of its own."""
        return self(logits, labels, weight, reduction)

    def training_classifier(self, classifier: nn.Linear) -> nn.Linear:
        """What stands in the place of a fresh `classifier` while training."""
        return classifier

    def undecayed(self, classifier: nn.Linear) -> Sequence[nn.Parameter]:
        """Weights of the training classifier that weight decay spares."""
        return ()

    def trained_classifier(self, classifier: nn.Linear) -> nn.Linear:
        """The plain linear classifier that predicts what the trained one stands for."""
        return classifier


def make_loss(chosen: Chosen, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> Loss[Section]:
    """The loss that `retrain.loss` names, for `counts` (K,) training images of each class and logits on `device`.

    Raises ValueError for a class without images.
    """
    return loss_class(chosen)(chosen.settings, counts, device)


def loss_class(chosen: Chosen) -> type[Loss[Section]]:
    """The one subclass of `Loss` that the file of a loss defines."""
    (family,) = [
        value
        for value in vars(chosen.module).values()
        if isinstance(value, type) and issubclass(value, Loss) and value.__module__ == chosen.module.__name__
    ]
    return cast("type[Loss[Section]]", family)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """torch's, with `weight` moved to the logits' device and precision."""
    return F.cross_entropy(logits, labels, None if weight is None else weight.to(logits), reduction=reduction)
