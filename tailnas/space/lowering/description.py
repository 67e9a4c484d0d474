"""One description of a search cell for all lowerings: its geometry, its weights by primitive, its BatchNorms.

Weights of equal operations are stacked over the edges, ordered by source, so that what leaves one state lies together.
The stacks are made from the plain network's parameters at each forward (they are small) and autograd takes the
gradients back, so that parameters, optimisers and checkpoints know the plain layout only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tailnas.space.cell import SearchCell
from tailnas.space.operations import FactorizedReduce
from tailnas.space.primitives import NODES, edge_index


class Edge(NamedTuple):
    row: int
    """Row of the alphas."""
    source: int
    node: int


EDGES_BY_SOURCE = tuple(
    Edge(edge_index(node, source), source, node)
    for source in range(NODES + 1)
    for node in range(max(0, source - 1), NODES)
)
SOURCES = NODES + 1
"""States that edges leave from: the two inputs and all nodes but the last."""


def outgoing(source: int) -> tuple[slice, tuple[Edge, ...]]:
    """The edges that leave `source`, and where they lie in EDGES_BY_SOURCE."""
    positions = [position for position, edge in enumerate(EDGES_BY_SOURCE) if edge.source == source]
    part = slice(positions[0], positions[-1] + 1)
    return part, EDGES_BY_SOURCE[part]


OUTGOING = tuple(outgoing(source) for source in range(SOURCES))

KERNELS = (
    ("sep_conv_3x3", "depthwise1"),
    ("sep_conv_5x5", "depthwise1"),
    ("sep_conv_3x3", "depthwise2"),
    ("sep_conv_5x5", "depthwise2"),
    ("dil_conv_3x3", "depthwise"),
    ("dil_conv_5x5", "depthwise"),
)
FIRST_POINTWISE = (("sep_conv_3x3", "pointwise1"), ("sep_conv_5x5", "pointwise1"))
LAST_POINTWISE = (
    ("sep_conv_3x3", "pointwise2"),
    ("sep_conv_5x5", "pointwise2"),
    ("dil_conv_3x3", "pointwise"),
    ("dil_conv_5x5", "pointwise"),
)


class CellWeights(NamedTuple):
    """Weights stacked over edges, ordered by source (E = 14, or what leaves one source).

    Depthwise kernels (E, C, 1, k, k); pointwise weights (E, primitives, C, C); the two halves of the factorised
    reductions (E, C / 2, C), for the edges that have one.
    """

    first_3x3: Tensor
    first_5x5: Tensor
    second_3x3: Tensor
    second_5x5: Tensor
    dilated_3x3: Tensor
    dilated_5x5: Tensor
    first_pointwise: Tensor
    last_pointwise: Tensor
    reduce_even: Tensor
    reduce_odd: Tensor

    def of(self, edges: slice) -> "CellWeights":
        """The weights of some edges (views)."""
        return CellWeights(*(stack[edges] for stack in self))


class SourceNorms(NamedTuple):
    """The BatchNorms of the edges that leave one source, in the order in which a lowering has their statistics."""

    max_pool: list[nn.BatchNorm2d]
    average_pool: list[nn.BatchNorm2d]
    first: list[nn.BatchNorm2d]
    """Edge by edge, in each sep_conv_3x3 and sep_conv_5x5."""
    last: list[nn.BatchNorm2d]
    """Edge by edge, in each as LAST_POINTWISE."""
    reduce: list[nn.BatchNorm2d]


class CellDescription:
    """What a lowering needs to know of a cell, looked up once."""

    def __init__(self, cell: SearchCell) -> None:
        self.reduction = cell.reduction
        self._edges = [cell.edges[edge.row] for edge in EDGES_BY_SOURCE]
        skips = [edge.get_submodule("skip_connect") for edge in self._edges]
        self._reduces = [skip for skip in skips if isinstance(skip, FactorizedReduce)]
        self._kernels = [[edge.get_submodule(f"{op}.{name}") for edge in self._edges] for op, name in KERNELS]
        self._pointwise = [
            [edge.get_submodule(f"{op}.{name}") for edge in self._edges for op, name in names]
            for names in (FIRST_POINTWISE, LAST_POINTWISE)
        ]
        self.norms = [self._source_norms(part) for part, _ in OUTGOING]
        self.eps = self.norms[0].first[0].eps

    def stride(self, source: int) -> int:
        """Stride of the edges that leave `source`."""
        return 2 if self.reduction and source < 2 else 1

    def tracks_statistics(self) -> bool:
        """Whether running statistics move with each batch; all BatchNorms of a cell are frozen together."""
        return self.norms[0].first[0].track_running_stats

    def weights(self) -> CellWeights:
        """The stacks as they are now, differentiable with respect to the parameters."""
        kernels = [stacked(convolutions) for convolutions in self._kernels]
        pointwise = [
            stacked(convolutions).flatten(2).unflatten(0, (len(self._edges), -1)) for convolutions in self._pointwise
        ]
        reduces = [kernels[0].new_empty(0)] * 2
        if self._reduces:
            reduces = [
                stacked([reduce.even for reduce in self._reduces]).flatten(2),
                stacked([reduce.odd for reduce in self._reduces]).flatten(2),
            ]
        return CellWeights(*kernels, *pointwise, *reduces)

    def _source_norms(self, part: slice) -> SourceNorms:
        edges = self._edges[part]

        def norms(*names: tuple[str, str]) -> list[nn.BatchNorm2d]:
            return [_norm(edge.get_submodule(f"{op}.{name}")) for edge in edges for op, name in names]

        return SourceNorms(
            norms(("max_pool_3x3", "norm")),
            norms(("avg_pool_3x3", "norm")),
            norms(("sep_conv_3x3", "norm1"), ("sep_conv_5x5", "norm1")),
            norms(*((op, name.replace("pointwise", "norm")) for op, name in LAST_POINTWISE)),
            [_norm(reduce.norm) for reduce in self._reduces[part]],
        )


def stacked(convolutions: Sequence[nn.Module]) -> Tensor:
    """Weights of equal convolutions along a new first dimension."""
    return torch.stack([convolution.get_parameter("weight") for convolution in convolutions])


def _norm(module: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(module, nn.BatchNorm2d)
    return module
