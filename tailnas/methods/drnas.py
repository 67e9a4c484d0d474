"""DrNAS (2006.10355): mixture weights are drawn from Dirichlet distributions whose concentrations are learned."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tailnas.data.split_file import Half
from tailnas.foundation.seeding import torch_generator
from tailnas.foundation.settings import NonNegative, Section
from tailnas.genotype.primitives import EDGES, PRIMITIVES
from tailnas.search.branches import Branches, relaxed_search
from tailnas.search.dirichlet import dirichlet_draw, dirichlet_noise
from tailnas.search.method import pretrained_mixture
from tailnas.search.relaxation import Alphas, Relaxation
from tailnas.search.task import SearchResult, SearchTask
from tailnas.training.checkpoint import Stateful
from tailnas.training.supervised import GeneratorState

start = pretrained_mixture


class Settings(Section):
    """Dirichlet distributions with concentrations elu(alpha) + 1, held near 1 by a regulariser."""

    branches: Branches = Field(description="One branch, or two.")
    distance: Literal["l2", "kl"] = Field(
        description="Distance of the concentrations from 1 in the regulariser: squared, as the paper has it, or the "
        "Kullback-Leibler divergence from the uniform distribution, as its code offers."
    )
    weight: NonNegative = Field(description="Factor of the regulariser; 0.001 in the paper.")


class Dirichlet(Relaxation):
    """theta ~ Dir(elu(alpha) + 1) in training, one draw for each half and step; their means otherwise."""

    def __init__(self, distance: str, weight: float) -> None:
        super().__init__()
        self.distance, self.weight = distance, weight

    def place(self, parameters: Alphas, seed: int) -> None:
        super().place(parameters, seed)
        self.generator = torch_generator(seed, "search", "dirichlet")
        self.components = len(parameters)
        self.device = next(iter(parameters.values())).device
        self.noise = self._drawn(1)[0]

    def _drawn(self, steps: int) -> Tensor:
        """(steps, halves, components, NUMBERS, 14, 8)."""
        draws = [
            dirichlet_noise((EDGES, len(PRIMITIVES)), self.generator)
            for _ in range(steps * len(HALF) * self.components)
        ]
        return torch.stack(draws).view(steps, len(HALF), self.components, *draws[0].shape).to(self.device)

    def start_epoch(self, t: float, steps: int) -> None:
        super().start_epoch(t, steps)
        self.plan = self._drawn(steps)

    def start_step(self, step: int) -> None:
        self.noise.copy_(self.plan[step])

    def weights(self, alphas: Alphas, half: Half | None) -> dict[str, Tensor]:
        if half is None:
            return {name: mean(concentration(values)) for name, values in alphas.items()}
        noise = self.noise[HALF[half]]
        return {
            name: dirichlet_draw(concentration(values), part)
            for (name, values), part in zip(alphas.items(), noise, strict=True)
        }

    def regulariser(self, alphas: Alphas) -> Tensor:
        distance = squared if self.distance == "l2" else divergence
        return self.weight * torch.stack([distance(concentration(values)) for values in alphas.values()]).sum()

    def recorded(self, alphas: Alphas) -> dict[str, Tensor]:
        """Their softmax is the distribution's mean."""
        return {name: concentration(values).log() for name, values in alphas.items()}

    def parts(self) -> dict[str, Stateful]:
        return {"dirichlet": GeneratorState(self.generator)}


HALF: dict[Half, int] = {"architecture": 0, "weight": 1}
"""Places of the halves' draws."""


def concentration(alphas: Tensor) -> Tensor:
    """elu(alpha) + 1, above 0 however small alpha is."""
    return (F.elu(alphas) + 1).clamp(min=1e-6)


def mean(concentrations: Tensor) -> Tensor:
    return concentrations / concentrations.sum(-1, keepdim=True)


def squared(concentrations: Tensor) -> Tensor:
    """Sum of (concentration - 1)^2 over edges and primitives."""
    return (concentrations - 1).square().sum()


def divergence(concentrations: Tensor) -> Tensor:
    """Sum over edges of KL(Dir(concentration) || Dir(1))."""
    total = concentrations.sum(-1, keepdim=True)
    edges = total.lgamma().squeeze(-1) - concentrations.lgamma().sum(-1)
    edges = edges - torch.lgamma(torch.tensor(float(concentrations.shape[-1]), dtype=total.dtype, device=total.device))
    return (edges + ((concentrations - 1) * (concentrations.digamma() - total.digamma())).sum(-1)).sum()


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return relaxed_search(task, settings.branches, Dirichlet(settings.distance, settings.weight))
