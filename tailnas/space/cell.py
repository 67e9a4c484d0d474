"""The cell of the search network: every edge is a mixture of all primitives (DARTS, equation 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.genotype.primitives import NODES, PRIMITIVES
from tailnas.space.operations import FactorizedReduce, ReLUConvBN, make_operation


class MixedEdge(nn.ModuleDict):
    """All primitives of one edge but `none`, which contributes nothing: sum_k weights[k] * operation_k(images).

    With `partial` channels (PC-DARTS, 1907.05737, equation 3) the primitives see the first 1 / partial of the channels;
    the others bypass them, times weights[BYPASS], and all are shuffled.
    """

    def __init__(self, channels: int, stride: int, partial: int = 1) -> None:
        width = channels // partial
        super().__init__(
            {name: make_operation(name, width, stride, affine=False, pool_norm=True) for name in PRIMITIVES[1:]}
        )
        self.stride, self.partial = stride, partial

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        seen, rest = parted(images, self.partial)
        mixed = sum(
            weight * operation(seen) for weight, operation in zip(weights[1:BYPASS], self.values(), strict=True)
        )
        return mixed if rest is None else shuffled(mixed, weights[BYPASS] * bypass(rest, self.stride))


BYPASS = len(PRIMITIVES)
"""Place, among the weights of an edge of partial channels, of the weight of those that no primitive sees."""


def parted(maps: Tensor, partial: int) -> tuple[Tensor, Tensor | None]:
    """The channels that primitives see, the first 1 / partial of (N, C, H, W), and the others; all and None if 1."""
    if partial == 1:
        return maps, None
    width = maps.shape[1] // partial
    seen, rest = maps.split([width, maps.shape[1] - width], dim=1)
    return seen, rest


def bypass(rest: Tensor, stride: int) -> Tensor:
    """What an edge makes of the channels that no primitive sees: themselves, or maxima over 2x2 pixels at stride 2."""
    return rest if stride == 1 else F.max_pool2d(rest, 2, 2)


def shuffled(mixed: Tensor, passed: Tensor) -> Tensor:
    """(N, c, ...) that primitives have seen and (N, C - c, ...) that have not, as (N, C, ...), one of c in every C / c.

    Channel c i + j of the two side by side becomes channel (C / c) j + i (channel shuffle, 1707.01083).
    """
    width = mixed.shape[1]
    groups = passed.unflatten(1, (-1, width)).transpose(1, 2)
    return torch.cat([mixed.unsqueeze(2), groups], dim=2).flatten(1, 2)


class SearchCell(nn.Module):
    """A cell of NODES intermediate nodes, each the sum over its incoming edges, all concatenated at the end.

    `reduction`: edges from the two inputs have stride 2, and the cell halves the map. `reduction_before`: the cell
    before halved the map, so that this cell's older input (two cells back) is still twice as large and gets halved
    first. `partial`: one over the share of the channels that primitives see.
    """

    def __init__(
        self,
        older_channels: int,
        newer_channels: int,
        channels: int,
        *,
        reduction: bool,
        reduction_before: bool,
        partial: int = 1,
    ):
        super().__init__()
        if partial < 1 or channels % partial:
            raise ValueError(f"partial: {partial}; allowed: a divisor of the cell's {channels} channels")
        self.channels = channels
        self.partial = partial
        self.output_channels = NODES * channels
        self.reduction = reduction
        self.preprocess_older = (
            FactorizedReduce(older_channels, channels, affine=False)
            if reduction_before
            else ReLUConvBN(older_channels, channels, affine=False)
        )
        self.preprocess_newer = ReLUConvBN(newer_channels, channels, affine=False)
        self.edges = nn.ModuleList(
            MixedEdge(channels, 2 if reduction and source < 2 else 1, partial)
            for node in range(NODES)
            for source in range(node + 2)
        )

    def forward(self, older: Tensor, newer: Tensor, weights: Tensor) -> Tensor:
        """`weights` (14, 8): the softmax of the alphas; (14, 9) with partial channels, the last for those that bypass
        the primitives. Returns (N, 4 * channels, H, W).
        """
        states = [self.preprocess_older(older), self.preprocess_newer(newer)]
        mixtures = iter(zip(self.edges, weights, strict=True))
        for _ in range(NODES):
            incoming = [(state, *next(mixtures)) for state in states]
            states.append(sum(edge(state, edge_weights) for state, edge, edge_weights in incoming))
        return torch.cat(states[2:], dim=1)
