"""Label-distribution-aware margins (LDAM, Cao et al. 2019, 1906.07413)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tailnas.foundation.settings import Positive, Section
from tailnas.imbalance.class_weights import checked_counts
from tailnas.retrain.loss import Loss, cross_entropy


def ldam_margins(counts: Sequence[int] | Tensor, max_margin: float = 0.5) -> Tensor:
    """Margins proportional to n_c^(-1/4), the largest of them `max_margin` (LDAM, 1906.07413, equation 13).

    counts: images of each class, (K,), each at least 1. Returns the default float type, (K,).
    Raises ValueError for numbers out of range.
    """
    n = checked_counts(counts)
    if not 0 < max_margin < float("inf"):
        raise ValueError(f"max_margin: {max_margin}; allowed: a finite number above 0")
    margins = n.pow(-0.25)
    return (margins * (max_margin / margins.max())).to(torch.get_default_dtype())


class CosineClassifier(nn.Linear):
    """Scores <f, w_c / ||w_c||> times `length`, without a bias; features come scaled to a length of their own."""

    def __init__(self, start: nn.Linear, length: float) -> None:
        super().__init__(start.in_features, start.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(F.normalize(start.weight.detach(), dim=1))
        self.length = length

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.length * F.normalize(self.weight, dim=1))

    @torch.no_grad()
    def linear(self) -> nn.Linear:
        """The plain linear classifier of the same scores; its bias is 0."""
        plain = nn.utils.skip_init(nn.Linear, self.in_features, self.out_features, device=self.weight.device)
        plain.weight.copy_(self.length * F.normalize(self.weight, dim=1))
        plain.bias.zero_()
        return plain


class Settings(Section):
    """Margins that grow for rare classes, with a cosine classifier."""

    margin: Positive = Field(description="Margin of the smallest class, the largest of all.")
    scale: Positive = Field(description="Factor s of the cosines.")


class LDAM(Loss[Settings]):
    """Cross-entropy of s (cos_c - m_y [c = y]) with a cosine classifier and margins m_y of `ldam_margins`.

    s is shared evenly: features and class vectors both have length sqrt(s), so that head adaptation finds features of a
    usual size. An auxiliary head, which is linear, gets cross-entropy. Predictions are made without margins.
    """

    def __init__(self, settings: Settings, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> None:
        super().__init__(settings, counts, device)
        self.margins = ldam_margins(self.counts, settings.margin).to(device)
        self.feature_norm = math.sqrt(settings.scale)

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        margins = self.settings.scale * self.margins.to(logits)
        shift = F.one_hot(labels, logits.shape[1]).to(logits) * margins
        return cross_entropy(logits - shift, labels, weight, reduction)

    def auxiliary(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        return cross_entropy(logits, labels, weight, reduction)

    def training_classifier(self, classifier: nn.Linear) -> nn.Linear:
        return CosineClassifier(classifier, math.sqrt(self.settings.scale)).to(classifier.weight.device)

    def trained_classifier(self, classifier: nn.Linear) -> nn.Linear:
        assert isinstance(classifier, CosineClassifier)
        return classifier.linear()
