"""How wide a network has to be for a budget of parameters, so that genotypes compare at one size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from tailnas.foundation.errors import UserError

if TYPE_CHECKING:
    from tailnas.space.network import Network

TOLERANCE = 0.05
"""Largest distance from the budget, as a share of it, so that any two networks lie within a tenth of each other."""

WIDEST = 4096


def halved(channels: int, stages: int) -> tuple[int, ...]:
    """Channels of each stage from those of the last: half as many before each reduction, rounded.

    At least 1, and 2 after a reduction, which halves them between its two paths.
    """
    least = [1, *[2] * (stages - 1)]
    halves = [(2 * channels + 2**stage) // 2 ** (stage + 1) for stage in reversed(range(stages))]
    return tuple(map(max, least, halves))


def parameter_count(network: nn.Module) -> int:
    """Trainable numbers of `network`."""
    return sum(weight.numel() for weight in network.parameters())


def smallest_size(build: Callable[[int | Sequence[int]], Network]) -> int:
    """Parameters of the narrowest network that `build` makes."""
    with torch.device("meta"):
        return parameter_count(build(halved(1, len(build(1).reductions) + 1)))


def fitted_channels(build: Callable[[int | Sequence[int]], Network], parameters: int) -> tuple[int, ...]:
    """The channels of each stage with which `build` makes the network whose size is closest to `parameters`.

    The last stage has 1 to WIDEST channels, the others as `halved` says: by doubling those of the first stage a small
    network would grow by a sixth at least.

    build: channels to a network without auxiliary head; more channels must mean more parameters. It is built without
    memory for its weights. Raises UserError where no number of channels comes within TOLERANCE of the budget.
    """
    with torch.device("meta"):
        stages = len(build(1).reductions) + 1

    def size(channels: int) -> int:
        with torch.device("meta"):
            return parameter_count(build(halved(channels, stages)))

    above = bisect_left(range(1, WIDEST), parameters, key=size) + 1
    sizes = {channels: size(channels) for channels in (above - 1, above) if channels >= 1}
    best = min(sizes, key=lambda channels: abs(sizes[channels] - parameters))
    if abs(sizes[best] - parameters) > TOLERANCE * parameters:
        nearest = " or ".join(
            f"{sizes[channels]} ({', '.join(map(str, halved(channels, stages)))} channels)"
            for channels in sorted(sizes)
        )
        raise UserError(
            f"retrain.network.parameters: {parameters} is met by no number of channels for this genotype; "
            f"allowed: within {TOLERANCE:.0%} of a size that it can have, such as {nearest}"
        )
    return halved(best, stages)
