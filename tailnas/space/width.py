"""How wide a network has to be for a budget of parameters, so that genotypes compare at one size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import torch
from torch import nn

from tailnas.errors import UserError

TOLERANCE = 0.1
"""Largest distance from the budget, as a share of it."""

WIDEST = 1024


def parameter_count(network: nn.Module) -> int:
    """Trainable numbers of `network`."""
    return sum(weight.numel() for weight in network.parameters())


def fitted_channels(build: Callable[[int], nn.Module], parameters: int) -> int:
    """The channels, 1 to WIDEST, with which `build` makes the network whose size is closest to `parameters`.

    build: channels to a network without auxiliary head; more channels must mean more parameters. It is built without
    memory for its weights. Raises UserError where no number of channels comes within TOLERANCE of the budget.
    """

    def size(channels: int) -> int:
        with torch.device("meta"):
            return parameter_count(build(channels))

    above = bisect_left(range(1, WIDEST), parameters, key=size) + 1
    sizes = {channels: size(channels) for channels in (above - 1, above) if channels >= 1}
    best = min(sizes, key=lambda channels: abs(sizes[channels] - parameters))
    if abs(sizes[best] - parameters) > TOLERANCE * parameters:
        nearest = " or ".join(f"{sizes[channels]} ({channels} channels)" for channels in sorted(sizes))
        raise UserError(
            f"retrain.parameters: {parameters} is met by no number of channels for this genotype; "
            f"allowed: within {TOLERANCE:.0%} of a size that it can have, such as {nearest}"
        )
    return best
