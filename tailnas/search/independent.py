"""Primitives that do not compete: a sigmoid for each instead of a share of a softmax (FairDARTS, 1911.12126)."""

from __future__ import annotations

import torch
from torch import Tensor

from tailnas.data.split_file import Half
from tailnas.genotype.primitives import PRIMITIVES
from tailnas.search.relaxation import Alphas, Relaxation, as_alphas


class Independent(Relaxation):
    """sigmoid(alpha) (equation 4), with the zero-one loss -mean((sigmoid(alpha) - 1/2)^2) (equation 5).

    `none` contributes nothing whatever its weight, so that its alpha has no part in the loss: the paper's space has no
    such primitive.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def weights(self, alphas: Alphas, half: Half | None) -> dict[str, Tensor]:
        return {name: values.sigmoid() for name, values in alphas.items()}

    def regulariser(self, alphas: Alphas) -> Tensor:
        away = [(values[:, 1:].sigmoid() - 0.5).square() for values in alphas.values()]
        return -self.weight * torch.cat(away).mean()

    def recorded(self, alphas: Alphas) -> dict[str, Tensor]:
        """All weights over as many as there are: their order is that of the sigmoids, over all edges."""
        return {name: as_alphas(values / len(PRIMITIVES)) for name, values in self.weights(alphas, None).items()}
