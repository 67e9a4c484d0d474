"""PC-DARTS (1907.05737): primitives see some of the channels, and edges have weights of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tailnas.data.split_file import Half
from tailnas.foundation.settings import Fraction, Section
from tailnas.genotype.primitives import EDGES, NODES, edge_index
from tailnas.search.branches import Branches, relaxed_search
from tailnas.search.relaxation import Alphas, Relaxation, as_alphas, cells
from tailnas.search.settings import Bilevel
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.settings import Space


class Settings(Section):
    """Partial channels and edge normalisation. Its super-network starts from random weights: others do not fit it."""

    branches: Branches = Field(description="One branch, or two.")
    partial: Annotated[int, Field(ge=1, le=64)] = Field(
        description="K: primitives see 1 / K of the channels. A divisor of space.channels; 4 in the paper."
    )
    edge_normalisation: bool = Field(description="Edges into a node have weights of their own, which sum to 1.")
    warm_up: Fraction = Field(
        description="Share of the epochs, at the beginning, in which the alphas rest; 0.3 is the paper's 15 of 50."
    )


class PartialChannels(Relaxation):
    """softmax(alpha) of the primitives times softmax(beta) over the edges that enter a node (equations 3 and 5)."""

    def __init__(self, partial: int, edge_normalisation: bool, warm_up: float) -> None:
        super().__init__()
        self.partial, self.edge_normalisation, self.warm_up = partial, edge_normalisation, warm_up

    def parameters(self, components: Sequence[str], generator: torch.Generator) -> dict[str, Tensor]:
        alphas = super().parameters(components, generator)
        if self.edge_normalisation:
            alphas |= {f"{name}.edges": 1e-3 * torch.randn(EDGES, generator=generator) for name in components}
        return alphas

    def weights(self, alphas: Alphas, half: Half | None) -> dict[str, Tensor]:
        """(14, 9): the primitives' and, last, what the channels that bypass them are multiplied with."""
        found = {}
        for name, softmax in super().weights(alphas, half).items():
            edges = edge_weights(alphas[f"{name}.edges"]) if self.edge_normalisation else softmax.new_ones(EDGES)
            found[name] = torch.cat([softmax, softmax.new_ones(EDGES, 1)], dim=1) * edges[:, None]
        return found

    def recorded(self, alphas: Alphas) -> dict[str, Tensor]:
        """Edges compete by the product of both weights."""
        if not self.edge_normalisation:
            return cells(alphas)
        return {name: as_alphas(values[:, :-1]) for name, values in self.weights(alphas, None).items()}


def edge_weights(betas: Tensor) -> Tensor:
    """(14,): softmax of the betas over the edges that enter the same node."""
    nodes = [betas[edge_index(node, 0) : edge_index(node, node + 1) + 1] for node in range(NODES)]
    return torch.cat([values.softmax(-1) for values in nodes])


def mistakes(settings: Settings, bilevel: Bilevel, space: Space) -> Iterator[str]:
    if space.channels % settings.partial:
        yield f"search.pc_darts.partial: {settings.partial}; allowed: a divisor of space.channels ({space.channels})"
    if bilevel.freeze_backbone:
        yield "search.bilevel.freeze_backbone: true with study.methods entry 'pc_darts'; allowed: false"


def search(task: SearchTask, settings: Settings) -> SearchResult:
    relaxation = PartialChannels(settings.partial, settings.edge_normalisation, settings.warm_up)
    return relaxed_search(task, settings.branches, relaxation)
