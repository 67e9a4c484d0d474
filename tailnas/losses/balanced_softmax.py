"""Balanced softmax (Ren et al. 2020, 2007.10740); as a loss, logit adjustment with tau = 1 is the same."""

from torch import Tensor

from tailnas.foundation.settings import Section
from tailnas.retrain.loss import Loss, cross_entropy


class Settings(Section):
    """Balanced softmax has no settings."""


class BalancedSoftmax(Loss):
    """Cross-entropy of z_c + log n_c; predictions are made from z."""

    corrects_class_sizes = True

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        return cross_entropy(logits + self.counts.log().to(logits), labels, weight, reduction)
