"""All that leaves one state of a cell, forward and backward, on channels-last maps: the work of folded_cell.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.space.lowering import pools
from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.description import CellWeights, SourceNorms
from tailnas.space.lowering.folded_convolutions import FoldedConvolutions
from tailnas.space.lowering.grouped_convolutions import GroupedConvolutions
from tailnas.space.lowering.layout import maps, plus, rows
from tailnas.space.lowering.nodes import Nodes
from tailnas.space.lowering.normalised import Normalised
from tailnas.space.lowering.normalised_product import NormalisedProduct, covariances, products, summed
from tailnas.space.primitives import PRIMITIVES


class Small(NamedTuple):
    """Numbers in the maps of one edge up to which all edges are computed side by side.

    `training` where gradients of the weights are asked for, `alphas_only` where they are not.
    """

    training: int
    alphas_only: int


MAX, AVERAGE, SKIP = (PRIMITIVES.index(name) for name in ("max_pool_3x3", "avg_pool_3x3", "skip_connect"))
CONVOLUTIONS = slice(PRIMITIVES.index("sep_conv_3x3"), len(PRIMITIVES))


@dataclass
class Leaving:
    """The edges that leave `state`, up to their last linear map; kept from forward to backward."""

    state: Tensor
    stride: int
    rectified: Tensor
    max_indices: Tensor
    max_pool: Normalised
    average_pool: Normalised
    convolutions: FoldedConvolutions | GroupedConvolutions
    reduce_input: Tensor | None
    reduce: NormalisedProduct | None

    @staticmethod
    def of(state: Tensor, stride: int, weights: CellWeights, eps: float, small: int) -> "Leaving":
        """small: numbers in the maps of one edge up to which all edges are computed side by side."""
        rectified = F.relu(state)
        max_maps, max_indices = pools.max_pool(state, stride)
        kind = GroupedConvolutions if state.numel() // stride**2 <= small else FoldedConvolutions
        convolutions = kind(rectified, stride, weights, eps)
        reduce = reduce_input = None
        if stride == 2:
            reduce_input = torch.cat([rows(rectified[:, :, start::2, start::2]) for start in (0, 1)], dim=1)
            mean = reduce_input.sum(0).div_(len(reduce_input))
            _, covariance = covariances([reduce_input.sub_(mean)])
            halves = zip(weights.reduce_even, weights.reduce_odd, strict=True)
            reduce_weights = torch.stack([torch.block_diag(even, odd) for even, odd in halves])
            edges = len(reduce_weights)
            reduce = NormalisedProduct.of(reduce_weights, mean.expand(edges, -1), covariance.expand(edges, -1, -1), eps)
        return Leaving(
            state,
            stride,
            rectified,
            max_indices,
            normalised_pool(max_maps, eps),
            normalised_pool(pools.average_pool(state, stride), eps),
            convolutions,
            reduce_input,
            reduce,
        )

    def send(self, weights: Tensor, nodes: Nodes, targets: Sequence[int]) -> None:
        """Add the mixtures, weighted by (edges, 8), to the edges' target nodes."""
        self.convolutions.send(weights[:, CONVOLUTIONS], nodes, targets)
        if self.reduce is not None and self.reduce_input is not None:
            for node, product in zip(targets, self.reduce.folded(weights[:, SKIP]), strict=True):
                nodes.add_product(node, self.reduce_input, product)
        for node, mixture in zip(targets, weights.tolist(), strict=True):
            total = nodes.total(node)
            total.add_(self.max_pool.values, alpha=mixture[MAX])
            total.add_(self.average_pool.values, alpha=mixture[AVERAGE])
            if self.reduce is None:
                total.add_(rows(self.state), alpha=mixture[SKIP])

    def record(self, norms: SourceNorms, statistics: BatchStatistics) -> None:
        """Hand over the batch statistics of all BatchNorms."""
        for pool_norms, pool in ((norms.max_pool, self.max_pool), (norms.average_pool, self.average_pool)):
            statistics.add(pool_norms, [pool.mean] * len(pool_norms), [pool.variance] * len(pool_norms))
        self.convolutions.record(norms, statistics)
        if self.reduce is not None:
            statistics.add(norms.reduce, self.reduce.mean.unbind(), self.reduce.variance.unbind())

    def backward(
        self,
        gradients: Tensor,
        centred: Tensor,
        weights: Tensor,
        cell: CellWeights,
        into: CellWeights | None,
        *,
        state_wanted: bool,
        mixture_wanted: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the mixture weights (edges, 8), incomplete unless wanted, and, where wanted, of the state; fills
        those of the cell's weights.

        `gradients`: of each edge's node (edges, N * H * W, C), `centred`: the same less their means over rows.
        """
        through = Backward(self, gradients, centred, weights, cell, into, state_wanted, mixture_wanted)
        mixture = torch.zeros_like(weights)
        mixture[:, CONVOLUTIONS] = through.convolutions()
        if self.reduce is not None:
            mixture[:, SKIP] = through.reductions()
        else:
            mixture[:, SKIP] = through.identities()
        mixture[:, MAX], mixture[:, AVERAGE] = through.pools()
        return mixture, through.state_gradient()


class Backward:
    """One backward pass through what leaves a state. The methods return gradients of mixture weights, one an edge."""

    def __init__(
        self,
        leaving: Leaving,
        gradients: Tensor,
        centred: Tensor,
        weights: Tensor,
        cell: CellWeights,
        into: CellWeights | None,
        state_wanted: bool,
        mixture_wanted: bool,
    ) -> None:
        self.leaving = leaving
        self.images = len(leaving.state)
        self.gradients = gradients
        self.centred = centred
        self.weights = weights
        self.cell = cell
        self.into = into
        self.state_wanted = state_wanted
        self.mixture_wanted = mixture_wanted
        self.rectified: Tensor | None = None
        self.state: Tensor | None = None

    def convolutions(self) -> Tensor:
        mixture, self.rectified = self.leaving.convolutions.backward(
            list(self.centred.unbind()), self.weights[:, CONVOLUTIONS], self.cell, self.into, self.state_wanted
        )
        return mixture

    def reductions(self) -> Tensor:
        """Factorised reductions, all of the same input."""
        reduce, matrix = self.leaving.reduce, self.leaving.reduce_input
        assert reduce is not None and matrix is not None
        cross = [products(gradient, matrix) for gradient in self.centred]
        result = reduce.backward(self.weights[:, SKIP], summed(cross), len(matrix))
        channels = matrix.shape[1] // 2
        if self.into:
            half = len(self.into.reduce_even[0])
            self.into.reduce_even.copy_(result.weights[:, :half, :channels])
            self.into.reduce_odd.copy_(result.weights[:, half:, channels:])
        if self.state_wanted:
            assert self.rectified is not None
            total = torch.mm(matrix, result.through_variance.sum(0))
            for gradient, direct in zip(self.centred, result.direct, strict=True):
                total.addmm_(gradient, direct)
            for start, part in enumerate(total.split(channels, dim=1)):
                self.rectified[:, :, start::2, start::2] += maps(part.contiguous(), self.leaving.max_indices)
        return result.scale

    def identities(self) -> Tensor:
        if self.state_wanted:
            self.state = maps(self._mixed(self.gradients, SKIP), self.leaving.max_indices)
        return self._against(self.gradients, rows(self.leaving.state))

    def pools(self) -> tuple[Tensor, Tensor]:
        leaving = self.leaving
        if self.state_wanted:
            like = leaving.max_indices
            gradient = maps(self._before(leaving.max_pool, MAX), like)
            self.state = plus(
                self.state, pools.max_pool_gradient(gradient, leaving.state, leaving.max_indices, leaving.stride)
            )
            gradient = maps(self._before(leaving.average_pool, AVERAGE), like)
            self.state += pools.average_pool_gradient(gradient, leaving.state, leaving.stride)
        return (
            self._against(self.centred, leaving.max_pool.values),
            self._against(self.centred, leaving.average_pool.values),
        )

    def state_gradient(self) -> Tensor | None:
        if not self.state_wanted:
            return None
        assert self.state is not None and self.rectified is not None
        rectified = self.rectified
        torch.ops.aten.threshold_backward.grad_input(rectified, self.leaving.rectified, 0, grad_input=rectified)
        return self.state.add_(rectified)

    def _mixed(self, gradients: Tensor, primitive: int) -> Tensor:
        """Sum over edges of the mixture weight of one primitive times the gradient: (N * H * W, C)."""
        mixed = torch.mv(gradients.flatten(1).t(), self.weights[:, primitive].contiguous())
        return mixed.view(gradients.shape[1:])

    def _before(self, pool: Normalised, primitive: int) -> Tensor:
        """Gradient of a pooled map, (N * H * W, C)."""
        mixed = self._mixed(self.centred, primitive)
        return pool.before(mixed, torch.empty_like(mixed))[0].mul_(pool.inverse)

    def _against(self, gradients: Tensor, values: Tensor) -> Tensor:
        """Inner products of each of (edges, N * H * W, C) with (N * H * W, C), zeros where nobody asks for them.

        A matrix product would be faster, with ten times the error.
        """
        if not self.mixture_wanted:
            return gradients.new_zeros(len(gradients))
        return torch.linalg.vecdot(gradients.flatten(1), values.flatten())


def normalised_pool(pooled: Tensor, eps: float) -> Normalised:
    """By BatchNorm, in place of `pooled` (N, C, H, W)."""
    return Normalised.of(rows(pooled), eps, out=rows(pooled))
