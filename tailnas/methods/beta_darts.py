"""beta-DARTS (2203.01665): a regulariser that decays the softmax weights and grows over the epochs."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from tailnas.foundation.settings import NonNegative, Section
from tailnas.search.branches import Branches, relaxed_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.relaxation import Alphas, Relaxation
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Section):
    """Beta-decay regularisation of the alphas."""

    branches: Branches = Field(description="One branch, or two.")
    weight: NonNegative = Field(
        description="Factor of the regulariser at the end; it grows linearly from 0. 50 in the paper."
    )


class BetaDecay(Relaxation):
    """lambda(t) times log sum_p exp(alpha_p), the mean over edges, summed over components (equation 13)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def schedule(self, t: float) -> float:
        return self.weight * t

    def regulariser(self, alphas: Alphas) -> Tensor:
        return self.strength * torch.stack([values.logsumexp(-1).mean() for values in alphas.values()]).sum()

    def columns(self) -> dict[str, float]:
        return {"beta_decay": float(self.strength)}


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return relaxed_search(task, settings.branches, BetaDecay(settings.weight))
