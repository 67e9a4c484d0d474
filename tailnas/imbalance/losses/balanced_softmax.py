"""Balanced softmax (Ren et al. 2020, 2007.10740); as a loss, logit adjustment with tau = 1 is the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tailnas.imbalance.losses.loss import Loss, LossSettings, cross_entropy


class BalancedSoftmax(Loss):
    """Cross-entropy of z_c + log n_c; predictions are made from z."""

    def __init__(
        self, settings: LossSettings, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(settings, counts, device)
        self.log_counts = self.counts.log().to(device, torch.get_default_dtype())

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        return cross_entropy(logits + self.log_counts.to(logits), labels, weight, reduction)
