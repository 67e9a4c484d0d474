"""What every backend needs to know of a search cell: its edges, its weights by primitive, its BatchNorms.

Weights of equal operations are stacked over the edges, ordered by source, so that those of all edges that leave one
state lie together. The stacks are made from the plain network's parameters at each forward (they are small) and
autograd takes the gradients back: parameters, optimisers and checkpoints know the plain layout only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tailnas.genotype.primitives import NODES, edge_index
from tailnas.space.cell import SearchCell
from tailnas.space.operations import FactorizedReduce


class Edge(NamedTuple):
    alpha_row: int
    """Its row in the alphas, and its place among the plain cell's edges."""
    source: int
    """The state that it leaves: 0 and 1 are the cell's inputs, 2 is node 0."""
    node: int
    """The node that it enters."""


EDGES_BY_SOURCE = tuple(
    Edge(edge_index(node, source), source, node)
    for source in range(NODES + 1)
    for node in range(max(0, source - 1), NODES)
)
SOURCES = NODES + 1
"""States that edges leave: the two inputs and all nodes but the last."""


def outgoing(source: int) -> tuple[slice, tuple[Edge, ...]]:
    """The edges that leave state `source`, and where they lie in EDGES_BY_SOURCE."""
    positions = [position for position, edge in enumerate(EDGES_BY_SOURCE) if edge.source == source]
    part = slice(positions[0], positions[-1] + 1)
    return part, EDGES_BY_SOURCE[part]


OUTGOING = tuple(outgoing(source) for source in range(SOURCES))

DEPTHWISE = (
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
    """Weights stacked over edges, ordered by source (E = 14, or the edges that leave one state).

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


class OutgoingNorms(NamedTuple):
    """The BatchNorms of the edges that leave one state, in the order in which a backend has their statistics."""

    max_pool: list[nn.BatchNorm2d]
    average_pool: list[nn.BatchNorm2d]
    first: list[nn.BatchNorm2d]
    """Edge by edge, on each sep_conv_3x3 and sep_conv_5x5."""
    last: list[nn.BatchNorm2d]
    """Edge by edge, on each in the order of LAST_POINTWISE."""
    reduce: list[nn.BatchNorm2d]


class CellDescription:
    """What a backend needs to know of a cell, looked up once."""

    def __init__(self, cell: SearchCell) -> None:
        self.reduction = cell.reduction
        self._edges = [cell.edges[edge.alpha_row] for edge in EDGES_BY_SOURCE]
        skips = [edge.get_submodule("skip_connect") for edge in self._edges]
        self._reduces = [skip for skip in skips if isinstance(skip, FactorizedReduce)]
        self._depthwise = [[edge.get_submodule(f"{op}.{name}") for edge in self._edges] for op, name in DEPTHWISE]
        self._pointwise = [
            [edge.get_submodule(f"{op}.{name}") for edge in self._edges for op, name in names]
            for names in (FIRST_POINTWISE, LAST_POINTWISE)
        ]
        self.norms = [self._outgoing_norms(part) for part, _ in OUTGOING]
        self.eps = self.norms[0].first[0].eps

    def stride(self, source: int) -> int:
        """Stride of the edges that leave state `source`."""
        return 2 if self.reduction and source < 2 else 1

    def tracks_statistics(self) -> bool:
        """Whether running statistics move with each batch; all BatchNorms of a cell are frozen together."""
        return self.norms[0].first[0].track_running_stats

    def weights(self) -> CellWeights:
        """The stacks as they are now, differentiable with respect to the parameters."""
        depthwise = [stacked(convolutions) for convolutions in self._depthwise]
        pointwise = [
            stacked(convolutions).flatten(2).unflatten(0, (len(self._edges), -1)) for convolutions in self._pointwise
        ]
        reduces = [depthwise[0].new_empty(0)] * 2
        if self._reduces:
            reduces = [
                stacked([reduce.even for reduce in self._reduces]).flatten(2),
                stacked([reduce.odd for reduce in self._reduces]).flatten(2),
            ]
        return CellWeights(*depthwise, *pointwise, *reduces)

    def _outgoing_norms(self, part: slice) -> OutgoingNorms:
        edges = self._edges[part]

        def norms(*names: tuple[str, str]) -> list[nn.BatchNorm2d]:
            return [_batch_norm(edge.get_submodule(f"{op}.{name}")) for edge in edges for op, name in names]

        return OutgoingNorms(
            norms(("max_pool_3x3", "norm")),
            norms(("avg_pool_3x3", "norm")),
            norms(("sep_conv_3x3", "norm1"), ("sep_conv_5x5", "norm1")),
            norms(*((op, name.replace("pointwise", "norm")) for op, name in LAST_POINTWISE)),
            [_batch_norm(reduce.norm) for reduce in self._reduces[part]],
        )


def stacked(convolutions: Sequence[nn.Module]) -> Tensor:
    """Weights of equal convolutions along a new first dimension."""
    return torch.stack([convolution.get_parameter("weight") for convolution in convolutions])


def _batch_norm(module: nn.Module) -> nn.BatchNorm2d:
    assert isinstance(module, nn.BatchNorm2d)
    return module


class BatchStatistics:
    """Means and biased variances of one batch, collected for the BatchNorms that they belong to.

    What it buys: the running statistics of all of them move in three operations instead of three each.
    """

    def __init__(self) -> None:
        self.norms: list[nn.BatchNorm2d] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def add(self, norms: Sequence[nn.BatchNorm2d], means: Sequence[Tensor], variances: Sequence[Tensor]) -> None:
        self.norms.extend(norms)
        self.means.extend(means)
        self.variances.extend(variances)

    @torch.no_grad()
    def update_running(self, count: int) -> None:
        """As BatchNorm does after a batch of `count` values per channel, unless the running statistics are frozen."""
        if not self.norms[0].track_running_stats:
            return
        momentum = self.norms[0].momentum
        assert momentum is not None
        running_means, running_variances, batches = [], [], []
        for norm in self.norms:
            assert norm.running_mean is not None and norm.running_var is not None
            assert norm.num_batches_tracked is not None
            running_means.append(norm.running_mean)
            running_variances.append(norm.running_var)
            batches.append(norm.num_batches_tracked)
        torch._foreach_lerp_(running_means, self.means, momentum)
        unbiased = torch._foreach_mul(self.variances, count / (count - 1))
        torch._foreach_lerp_(running_variances, list(unbiased), momentum)
        torch._foreach_add_(batches, 1)
