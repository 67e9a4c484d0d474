"""How wide a network has to be for a budget of parameters, so that genotypes compare at one size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import product
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


def fitted_channels(
    build: Callable[[int | Sequence[int]], Network], parameters: int, whose: str = "this genotype"
) -> tuple[int, ...]:
    """The channels of each stage with which `build` makes the network whose size is closest to `parameters`.

    The last stage has 1 to WIDEST channels, the others as `halved` says: by doubling those of the first stage a small
    network would grow by a sixth at least. Where that comes too far from the budget, as ResNet-32 with few channels
    does, each stage has the channels of the network below or of that above it.

    build: channels to a network without auxiliary head; more channels must mean more parameters. It is built without
    memory for its weights. whose: what a refusal calls it. Raises UserError where no number of channels comes within
    TOLERANCE of the budget.
    """
    with torch.device("meta"):
        stages = len(build(1).reductions) + 1

    def size(channels: Sequence[int]) -> int:
        with torch.device("meta"):
            return parameter_count(build(channels))

    def distance(channels: tuple[int, ...]) -> int:
        return abs(sizes[channels] - parameters)

    above = bisect_left(range(1, WIDEST), parameters, key=lambda last: size(halved(last, stages))) + 1
    ends = [halved(last, stages) for last in (above - 1, above) if last >= 1]
    sizes = {channels: size(channels) for channels in ends}
    if distance(best := min(sizes, key=distance)) > TOLERANCE * parameters:
        sizes |= {channels: size(channels) for channels in product(*zip(*ends, strict=True))}
        best = min(sizes, key=distance)
    if distance(best) > TOLERANCE * parameters:
        nearest = " or ".join(
            f"{sizes[channels]} ({', '.join(map(str, channels))} channels)"
            for channels in sorted(sorted(sizes, key=distance)[:2], key=sizes.__getitem__)
        )
        raise UserError(
            f"retrain.network.parameters: {parameters} is met by no number of channels for {whose}; "
            f"allowed: within {TOLERANCE:.0%} of a size that it can have, such as {nearest}"
        )
    return best
