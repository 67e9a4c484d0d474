"""The cell of the search network: every edge is a mixture of all primitives (DARTS, equation 2)."""

import torch
from torch import Tensor, nn

from tailnas.genotype.primitives import NODES, PRIMITIVES
from tailnas.space.operations import FactorizedReduce, ReLUConvBN, make_operation


class MixedEdge(nn.ModuleDict):
    """All primitives of one edge but `none`, which contributes nothing: sum_k weights[k] * operation_k(images)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__({name: make_operation(name, channels, stride, search=True) for name in PRIMITIVES[1:]})

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * operation(images) for weight, operation in zip(weights[1:], self.values(), strict=True))


class SearchCell(nn.Module):
    """A cell of NODES intermediate nodes, each the sum over its incoming edges, all concatenated at the end.

    `reduction`: edges from the two inputs have stride 2, and the cell halves the map. `reduction_before`: the cell
    before halved the map, so that this cell's older input (two cells back) is still twice as large and gets halved
    first.
    """

    def __init__(
        self, older_channels: int, newer_channels: int, channels: int, *, reduction: bool, reduction_before: bool
    ):
        super().__init__()
        self.channels = channels
        self.output_channels = NODES * channels
        self.reduction = reduction
        self.preprocess_older = (
            FactorizedReduce(older_channels, channels, affine=False)
            if reduction_before
            else ReLUConvBN(older_channels, channels, affine=False)
        )
        self.preprocess_newer = ReLUConvBN(newer_channels, channels, affine=False)
        self.edges = nn.ModuleList(
            MixedEdge(channels, stride=2 if reduction and source < 2 else 1)
            for node in range(NODES)
            for source in range(node + 2)
        )

    def forward(self, older: Tensor, newer: Tensor, weights: Tensor) -> Tensor:
        """`weights` (14, 8): the softmax of the alphas. Returns (N, 4 * channels, H, W)."""
        states = [self.preprocess_older(older), self.preprocess_newer(newer)]
        mixtures = iter(zip(self.edges, weights, strict=True))
        for _ in range(NODES):
            incoming = [(state, *next(mixtures)) for state in states]
            states.append(sum(edge(state, edge_weights) for state, edge, edge_weights in incoming))
        return torch.cat(states[2:], dim=1)
