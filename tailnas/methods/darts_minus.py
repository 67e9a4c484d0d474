"""DARTS- (2009.01027): an auxiliary skip connection on every edge, whose weight decays to 0."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tailnas.data.split_file import Half
from tailnas.foundation.settings import Positive, Section
from tailnas.genotype.primitives import PRIMITIVES
from tailnas.imbalance.mixing import cosine
from tailnas.search.branches import Branches, relaxed_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.relaxation import Alphas, Relaxation
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture
SKIP = PRIMITIVES.index("skip_connect")


class Settings(Section):
    """An auxiliary skip connection beside the one that competes."""

    branches: Branches = Field(description="One branch, or two.")
    beta: Positive = Field(description="Weight of the auxiliary skip connection in the first epoch; 1 in the paper.")
    decay: Literal["linear", "cosine"] = Field(description="How it falls to 0 over the epochs; linear in the paper.")


class AuxiliarySkip(Relaxation):
    """beta x + sum_p softmax(alpha)_p p(x) (equation 5), so that skip_connect need not carry the gradient as well.

    At stride 2 it is the edge's own factorised reduction, which is what skip_connect is there (a reading).
    """

    def __init__(self, beta: float, decay: str) -> None:
        super().__init__()
        self.beta, self.decay = beta, decay

    def schedule(self, t: float) -> float:
        return self.beta * (1 - t if self.decay == "linear" else cosine(t))

    def weights(self, alphas: Alphas, half: Half | None) -> dict[str, Tensor]:
        found = super().weights(alphas, half)
        skips = {name: torch.arange(len(PRIMITIVES), device=softmax.device) == SKIP for name, softmax in found.items()}
        return {name: softmax + self.strength * skips[name].to(softmax) for name, softmax in found.items()}

    def columns(self) -> dict[str, float]:
        return {"auxiliary_skip": float(self.strength)}


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return relaxed_search(task, settings.branches, AuxiliarySkip(settings.beta, settings.decay))
