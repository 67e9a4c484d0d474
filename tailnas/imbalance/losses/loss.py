"""What every loss family is and does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.imbalance.losses.weights import checked_counts


class LossSettings(Protocol):
    """The fields of params.yaml that losses read."""

    @property
    def focal_gamma(self) -> float: ...
    @property
    def ldam_margin(self) -> float: ...
    @property
    def ldam_scale(self) -> float: ...
    @property
    def logit_adjustment_tau(self) -> float: ...


class Loss(ABC):
    """A loss of logits (N, K) and labels (N,), called as `torch.nn.functional.cross_entropy` is.

    weight: of each class (K,), or None. reduction: `none` is the weighted loss of each image, (N,); `mean` is their sum
    over the sum of the labels' weights.
    """

    weighted = False
    """Whether the class-balanced weights belong to the loss, from the first epoch unless they are deferred."""

    feature_norm: float | None = None
    """Length to which the classifier's features are scaled; None leaves them as they are."""

    def __init__(
        self, settings: LossSettings, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu"
    ) -> None:
        """counts: training images of each class, (K,), each at least 1. device: the logits'. Raises ValueError."""
        self.settings = settings
        self.counts = checked_counts(counts).cpu()
        self.device = device

    @abstractmethod
    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """The loss of the classifier's logits."""

    def auxiliary(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        """The loss of an auxiliary linear head's logits: the same, unless it needs a classifier of its own."""
        return self(logits, labels, weight, reduction)

    def training_classifier(self, classifier: nn.Linear) -> nn.Linear:
        """What stands in the place of a fresh `classifier` while training."""
        return classifier

    def trained_classifier(self, classifier: nn.Linear) -> nn.Linear:
        """The plain linear classifier that predicts what the trained one stands for."""
        return classifier


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """torch's, with `weight` moved to the logits' device and precision."""
    return F.cross_entropy(logits, labels, None if weight is None else weight.to(logits), reduction=reduction)
