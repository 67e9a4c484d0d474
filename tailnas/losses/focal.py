"""Focal loss (Lin et al. 2017, 1708.02002)."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tailnas.foundation.settings import NonNegative, Section
from tailnas.retrain.loss import Loss


class Settings(Section):
    """The focal loss of a softmax."""

    gamma: NonNegative = Field(description="Exponent gamma of (1 - p)^gamma.")


class Focal(Loss[Settings]):
    """-(1 - p)^gamma log p with p = softmax(z)_y; class weights scale the loss and never enter p."""

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        log_p = F.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)
        losses = -((-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** self.settings.gamma) * log_p
        weights = torch.ones_like(losses) if weight is None else weight.to(losses)[labels]
        return weights * losses if reduction == "none" else (weights * losses).sum() / weights.sum()
