"""What a search by gradient makes of its alphas. DARTS' softmax is the base; a method changes what it must.

A relaxation turns alphas into mixture weights, may add a regulariser on them, further architecture parameters that the
same Adam trains, a number that moves with the epochs, and random draws; and it says which weights the genotype is
derived from. The network, the steps and the record know nothing else of the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tailnas.data.split_file import Half
from tailnas.space.supernet import initial_alphas
from tailnas.training.checkpoint import Stateful

Alphas = Mapping[str, Tensor]
"""(14, 8) of each component, and further architecture parameters `component.name`."""


class Relaxation:
    """DARTS (1806.09055, equation 2): the softmax of the alphas, nothing added.

    Whatever changes from step to step is a tensor that changes in place, so that a recorded step sees it.
    """

    partial: int = 1
    """One over the share of the channels that primitives see."""
    warm_up: float = 0.0
    """Share of the epochs, at the beginning, in which the alphas rest."""

    def __init__(self) -> None:
        self.strength = torch.zeros((), dtype=torch.float64)
        """A number that `schedule` moves, of methods that have one."""

    def parameters(self, components: Sequence[str], generator: torch.Generator) -> dict[str, Tensor]:
        """The architecture parameters before the first step, float32 on the CPU, alphas first."""
        return initial_alphas(components, generator)

    def place(self, parameters: Alphas, seed: int) -> None:
        """Called once, with the parameters on their device, before the first step."""
        self.strength = self.strength.to(next(iter(parameters.values())).device)

    def schedule(self, t: float) -> float:
        """The strength at t = epoch / epochs."""
        return 0.0

    def start_epoch(self, t: float, steps: int) -> None:
        """Called before each epoch of `steps` steps."""
        self.strength.fill_(self.schedule(t))

    def start_step(self, step: int) -> None:
        """Called before each step."""

    def weights(self, alphas: Alphas, half: Half | None) -> dict[str, Tensor]:
        """Mixture weights of each component, (14, 8), with partial channels (14, 9).

        half: that of the batch in training, since draws differ between the two; None for the expected weights.
        """
        return {name: values.softmax(-1) for name, values in cells(alphas).items()}

    def regulariser(self, alphas: Alphas) -> Tensor | None:
        """What the alphas' loss has beside that of the images; None for nothing."""
        return None

    def recorded(self, alphas: Alphas) -> dict[str, Tensor]:
        """For each component the (14, 8) whose softmax the genotype is derived from."""
        return cells(alphas)

    def columns(self) -> dict[str, float]:
        """Further columns of an epoch's row."""
        return {}

    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint has to carry beside the parameters."""
        return {}


def cells(alphas: Alphas) -> dict[str, Tensor]:
    """The alphas without further architecture parameters."""
    return {name: values for name, values in alphas.items() if "." not in name}


def component(parameter: str) -> str:
    """The component that an architecture parameter belongs to, whose learning rate it has."""
    return parameter.partition(".")[0]


def as_alphas(weights: Tensor) -> Tensor:
    """Alphas (14, 8) whose softmax has these weights for all primitives but `none`, which takes what they leave of 1.

    So an edge with smaller weights is a weaker edge, as the derivation compares them. Their sum is at most 1.
    """
    others = weights[:, 1:].detach().double()
    rest = 1 - others.sum(-1, keepdim=True)
    return torch.cat([rest, others], dim=1).clamp(min=1e-30).log().to(weights.dtype)
