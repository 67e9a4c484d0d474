"""Weight balancing: class-balanced loss under MaxNorm and weight decay (Alshammari et al. 2022, 2203.14197)."""

import torch
from pydantic import Field
from torch import Tensor

from tailnas.adapt.head_task import HeadResult, HeadTask
from tailnas.adapt.settings import HeadTraining
from tailnas.foundation.settings import Fraction, Section, Share
from tailnas.imbalance.class_weights import class_balanced_weights


class Settings(Section):
    """The retrained head trained on with the class-balanced loss, no class vector longer than a radius."""

    beta: Fraction = Field(description="beta of the class-balanced weights (1 - beta) / (1 - beta^n).")
    radius: Share = Field(
        description="Longest class vector, between the shortest (0) and the longest (1) of the retrained head."
    )
    training: HeadTraining


def max_norm(weight: Tensor, radius: float | Tensor) -> Tensor:
    """min(1, radius / ||w_c||) w_c for class vectors (K, D): the nearest point of norms up to `radius`."""
    norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return weight * (radius / norms.clamp_min(torch.finfo(weight.dtype).tiny)).clamp_max(1.0)


def assumed_prior(counts: Tensor, settings: Settings) -> Tensor:
    """As classes weigh in the loss."""
    return counts * class_balanced_weights(counts, settings.beta).double()


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """Projected gradient descent from the retrained head: class vectors are projected after each step.

    The radius is fixed before, as a point between the shortest and the longest class vector, as in the public code.
    """
    with torch.no_grad():
        norms = torch.linalg.vector_norm(task.head.weight, dim=1)
        radius = norms.min() + settings.radius * (norms.max() - norms.min())

    @torch.no_grad()
    def project() -> None:
        task.head.weight.copy_(max_norm(task.head.weight, radius))

    weights = class_balanced_weights(task.counts, settings.beta)
    return HeadResult(task.train(task.head, settings.training, "instance", weights, after_step=project))
