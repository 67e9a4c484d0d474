"""A loss family with its class weights over training, for labels that may be mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailnas.foundation.settings import Section
from tailnas.imbalance.class_weights import class_balanced_weights
from tailnas.retrain.loss import Loss
from tailnas.retrain.settings import NeverReweighted, Reweighted


@dataclass(frozen=True)
class MixedLabels:
    """Labels of images that are mixtures of two: int64 (N,) each, and the share (N,) of the first."""

    labels: Tensor
    partners: Tensor
    share: Tensor


def deferred(epoch: int, epochs: int) -> bool:
    """Whether deferred re-weighting (DRW, 1906.07413, section 3.3) still waits: it starts at 80% of the epochs."""
    return 5 * epoch < 4 * epochs


class ReweightedLoss:
    """`loss` with class weights w_c = (1 - beta) / (1 - beta^n_c): always, from 80% of the epochs, or never.

    A batch's loss is the sum of the weighted losses over the sum of the weights, or over the number of images.
    `set_epoch` must be called before each epoch.
    """

    def __init__(self, loss: Loss[Section], settings: NeverReweighted | Reweighted) -> None:
        self.loss = loss
        self.deferred = settings.when == "deferred"
        self.by_images = isinstance(settings, Reweighted) and settings.divided_by == "images"
        self._weights: Tensor | None = None
        if isinstance(settings, Reweighted):
            self._weights = class_balanced_weights(loss.counts, settings.beta).to(loss.device)
        self.weight: Tensor | None = None
        self.set_epoch(0, 1)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Tell how far training is; `epoch` counts from 0."""
        self.weight = None if self.deferred and deferred(epoch, epochs) else self._weights

    def assumed_prior(self, drawn: Tensor) -> Tensor:
        """Class frequencies (K,), of any scale, that predictions assume where batches had `drawn` (K,): a class that
        weighs twice counts as if it were drawn twice as often.
        """
        weights = torch.ones_like(drawn) if self._weights is None else self._weights.to(drawn)
        return self.loss.assumed_prior(drawn * weights)

    def __call__(self, logits: Tensor, targets: Tensor | MixedLabels) -> Tensor:
        """Scalar loss of logits (N, K)."""
        return self._mean(self.loss, logits, targets)

    def auxiliary(self, logits: Tensor, targets: Tensor | MixedLabels) -> Tensor:
        """Scalar loss of an auxiliary head's logits (N, K)."""
        return self._mean(self.loss.auxiliary, logits, targets)

    def _mean(self, loss: Callable[..., Any], logits: Tensor, targets: Tensor | MixedLabels) -> Tensor:
        if isinstance(targets, Tensor):
            value = loss(logits, targets, self.weight, "none" if self.by_images else "mean")
            return value.mean()
        weights = torch.ones(logits.shape[1], device=logits.device) if self.weight is None else self.weight
        total, norm = logits.new_zeros(()), logits.new_zeros(())
        for labels, share in ((targets.labels, targets.share), (targets.partners, 1 - targets.share)):
            total = total + (share * loss(logits, labels, self.weight, "none")).sum()
            norm = norm + (share * weights[labels]).sum()
        return total / (len(logits) if self.by_images else norm)
