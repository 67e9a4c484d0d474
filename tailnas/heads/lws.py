"""Learnable weight scaling, LWS (Kang et al. 2020, 1910.09217, section 4.3)."""

import torch
from torch import Tensor, nn

from tailnas.adapt.head_task import HeadResult, HeadTask
from tailnas.adapt.settings import BalancedSampler, HeadTraining
from tailnas.foundation.settings import Section


class Settings(Section):
    """One learned scale per class, on class-balanced batches."""

    sampler: BalancedSampler
    training: HeadTraining


class ScaledHead(nn.Module):
    """s_c (w_c f + b_c): `scale` (K,) is trained, starting at 1, the head is not."""

    weight: Tensor
    bias: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", head.weight.detach().clone())
        self.register_buffer("bias", head.bias.detach().clone())
        self.scale = nn.Parameter(torch.ones_like(head.bias))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * nn.functional.linear(features, self.weight, self.bias)


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """One scale per class, learned on class-balanced batches and written into weight and bias."""
    scaled = ScaledHead(task.head)
    history = task.train(scaled, settings.training, settings.sampler)
    with torch.no_grad():
        task.head.weight.mul_(scaled.scale[:, None])
        task.head.bias.mul_(scaled.scale)
    return HeadResult(history)
