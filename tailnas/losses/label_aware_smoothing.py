"""Label-aware smoothing (MiSLAS, Zhong et al. 2021, 2104.00466, section 3.2)."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from tailnas.foundation.settings import Section
from tailnas.imbalance.settings import ClassSmoothing
from tailnas.imbalance.smoothing import class_smoothing, smoothed_cross_entropy
from tailnas.retrain.loss import Loss


class Settings(Section):
    """Cross-entropy with labels that are smoothed by the size of their class."""

    smoothing: ClassSmoothing = Field(description="How much the label of a class is smoothed.")


class LabelAwareSmoothing(Loss[Settings]):
    """Cross-entropy with 1 - eps_y for the label y and eps_y / (K - 1) for each other class."""

    def __init__(self, settings: Settings, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> None:
        super().__init__(settings, counts, device)
        by_size = settings.smoothing
        self.smoothing = class_smoothing(self.counts, by_size.largest, by_size.smallest, by_size.shape).to(device)

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        return smoothed_cross_entropy(logits, labels, self.smoothing, weight, reduction)
