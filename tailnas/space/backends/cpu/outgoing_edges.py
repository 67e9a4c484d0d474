"""The edges that leave one state of a cell, forward and backward, on channels-last maps.

What it buys: ReLU and poolings are computed once per state, not once per edge, and gradients of the state and of the
mixture weights only where they are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.genotype.primitives import PRIMITIVES
from tailnas.space.backends.cpu.batch_norm import (
    FoldedBatchNorm,
    Normalised,
    covariances,
    product_in_parts,
    summed_products,
)
from tailnas.space.backends.cpu.convolutions_by_edge import ConvolutionsByEdge
from tailnas.space.backends.cpu.convolutions_side_by_side import ConvolutionsSideBySide
from tailnas.space.backends.cpu.maps import (
    NodeSums,
    accumulated,
    as_maps,
    as_rows,
    average_pool,
    average_pool_gradient,
    max_pool,
    max_pool_gradient,
)
from tailnas.space.backends.description import BatchStatistics, CellWeights, OutgoingNorms

MAX, AVERAGE, SKIP = (PRIMITIVES.index(name) for name in ("max_pool_3x3", "avg_pool_3x3", "skip_connect"))
CONVOLUTIONS = slice(PRIMITIVES.index("sep_conv_3x3"), len(PRIMITIVES))


@dataclass
class OutgoingEdges:
    """The edges that leave `state`, up to their last linear map; kept from forward to backward."""

    state: Tensor
    stride: int
    rectified: Tensor
    max_indices: Tensor
    max_pool: Normalised
    average_pool: Normalised
    convolutions: ConvolutionsByEdge | ConvolutionsSideBySide
    reduce_input: Tensor | None
    reduce: FoldedBatchNorm | None

    @staticmethod
    def of(state: Tensor, stride: int, weights: CellWeights, eps: float, side_by_side_limit: int) -> "OutgoingEdges":
        """side_by_side_limit: numbers in the maps of one edge up to which all edges are computed side by side."""
        rectified = F.relu(state)
        maxima, max_indices = max_pool(state, stride)
        small = state.numel() // stride**2 <= side_by_side_limit
        convolutions = (ConvolutionsSideBySide if small else ConvolutionsByEdge)(rectified, stride, weights, eps)
        reduce = reduce_input = None
        if stride == 2:
            reduce_input = torch.cat([as_rows(rectified[:, :, start::2, start::2]) for start in (0, 1)], dim=1)
            mean = reduce_input.sum(0).div_(len(reduce_input))
            _, covariance = covariances([reduce_input.sub_(mean)])
            halves = zip(weights.reduce_even, weights.reduce_odd, strict=True)
            reduce_weights = torch.stack([torch.block_diag(even, odd) for even, odd in halves])
            edges = len(reduce_weights)
            reduce = FoldedBatchNorm.of(reduce_weights, mean.expand(edges, -1), covariance.expand(edges, -1, -1), eps)
        return OutgoingEdges(
            state,
            stride,
            rectified,
            max_indices,
            normalised_in_place(maxima, eps),
            normalised_in_place(average_pool(state, stride), eps),
            convolutions,
            reduce_input,
            reduce,
        )

    def add_to(self, sums: NodeSums, targets: Sequence[int], mixture: Tensor) -> None:
        """Add all primitives, weighted by (edges, 8), to the edges' target nodes."""
        self.convolutions.add_to(sums, targets, mixture[:, CONVOLUTIONS])
        if self.reduce is not None and self.reduce_input is not None:
            for node, folded in zip(targets, self.reduce.folded_weights(mixture[:, SKIP]), strict=True):
                sums.add_product(node, self.reduce_input, folded)
        for node, weights in zip(targets, mixture.tolist(), strict=True):
            total = sums.rows(node)
            total.add_(self.max_pool.values, alpha=weights[MAX])
            total.add_(self.average_pool.values, alpha=weights[AVERAGE])
            if self.reduce is None:
                total.add_(as_rows(self.state), alpha=weights[SKIP])

    def collect(self, statistics: BatchStatistics, norms: OutgoingNorms) -> None:
        """Hand over the batch statistics of all BatchNorms."""
        for pool_norms, pool in ((norms.max_pool, self.max_pool), (norms.average_pool, self.average_pool)):
            statistics.add(pool_norms, [pool.mean] * len(pool_norms), [pool.variance] * len(pool_norms))
        self.convolutions.collect(statistics, norms)
        if self.reduce is not None:
            statistics.add(norms.reduce, self.reduce.mean.unbind(), self.reduce.variance.unbind())


@dataclass
class BackwardPass:
    """One backward pass through the edges that leave a state, primitive by primitive.

    `gradients`: of each edge's node (edges, N * H * W, C); `centred`: the same less their means over rows. `mixture`:
    (edges, 8). `weight_gradients`: filled, None where they are not needed.
    """

    edges: OutgoingEdges
    gradients: Tensor
    centred: Tensor
    mixture: Tensor
    weights: CellWeights
    weight_gradients: CellWeights | None
    state_needed: bool
    mixture_needed: bool
    rectified_gradient: Tensor | None = None
    state_gradient: Tensor | None = None

    def run(self) -> tuple[Tensor, Tensor | None]:
        """Gradients of the mixture weights (edges, 8), incomplete unless needed, and, where needed, of the state."""
        mixture_gradient = torch.zeros_like(self.mixture)
        mixture_gradient[:, CONVOLUTIONS] = self.convolutions()
        mixture_gradient[:, SKIP] = self.identities() if self.edges.reduce is None else self.reductions()
        mixture_gradient[:, MAX], mixture_gradient[:, AVERAGE] = self.pools()
        if not self.state_needed:
            return mixture_gradient, None
        assert self.state_gradient is not None and self.rectified_gradient is not None
        through_relu = self.rectified_gradient
        torch.ops.aten.threshold_backward.grad_input(through_relu, self.edges.rectified, 0, grad_input=through_relu)
        return mixture_gradient, self.state_gradient.add_(through_relu)

    def convolutions(self) -> Tensor:
        mixture_gradient, self.rectified_gradient = self.edges.convolutions.backward(
            list(self.centred.unbind()),
            self.mixture[:, CONVOLUTIONS],
            self.weights,
            self.weight_gradients,
            self.state_needed,
        )
        return mixture_gradient

    def reductions(self) -> Tensor:
        """Factorised reductions, all of the same input."""
        reduce, rows = self.edges.reduce, self.edges.reduce_input
        assert reduce is not None and rows is not None
        cross = [product_in_parts(gradient, rows) for gradient in self.centred]
        result = reduce.backward(self.mixture[:, SKIP], summed_products(cross), len(rows))
        channels = rows.shape[1] // 2
        if self.weight_gradients:
            half = len(self.weight_gradients.reduce_even[0])
            self.weight_gradients.reduce_even.copy_(result.weights[:, :half, :channels])
            self.weight_gradients.reduce_odd.copy_(result.weights[:, half:, channels:])
        if self.state_needed:
            assert self.rectified_gradient is not None
            total = torch.mm(rows, result.through_variance.sum(0))
            for gradient, direct in zip(self.centred, result.direct, strict=True):
                total.addmm_(gradient, direct)
            for start, part in enumerate(total.split(channels, dim=1)):
                self.rectified_gradient[:, :, start::2, start::2] += as_maps(part.contiguous(), self.edges.max_indices)
        return result.scale

    def identities(self) -> Tensor:
        if self.state_needed:
            self.state_gradient = as_maps(self._mixed(self.gradients, SKIP), self.edges.max_indices)
        return self._inner_products(self.gradients, as_rows(self.edges.state))

    def pools(self) -> tuple[Tensor, Tensor]:
        edges = self.edges
        if self.state_needed:
            gradient = as_maps(self._pooled_gradient(edges.max_pool, MAX), edges.max_indices)
            self.state_gradient = accumulated(
                self.state_gradient, max_pool_gradient(gradient, edges.state, edges.max_indices, edges.stride)
            )
            gradient = as_maps(self._pooled_gradient(edges.average_pool, AVERAGE), edges.max_indices)
            self.state_gradient += average_pool_gradient(gradient, edges.state, edges.stride)
        return (
            self._inner_products(self.centred, edges.max_pool.values),
            self._inner_products(self.centred, edges.average_pool.values),
        )

    def _mixed(self, gradients: Tensor, primitive: int) -> Tensor:
        """Sum over edges of the mixture weight of one primitive times the gradient: (N * H * W, C)."""
        mixed = torch.mv(gradients.flatten(1).t(), self.mixture[:, primitive].contiguous())
        return mixed.view(gradients.shape[1:])

    def _pooled_gradient(self, pool: Normalised, primitive: int) -> Tensor:
        """Gradient of a pooled map, (N * H * W, C)."""
        mixed = self._mixed(self.centred, primitive)
        return pool.unscaled_input_gradient(mixed, torch.empty_like(mixed))[0].mul_(pool.inverse_std)

    def _inner_products(self, gradients: Tensor, values: Tensor) -> Tensor:
        """Of each of (edges, N * H * W, C) with (N * H * W, C), zeros where nobody asks for them.

        A matrix product would be faster, with ten times the error.
        """
        if not self.mixture_needed:
            return gradients.new_zeros(len(gradients))
        return torch.linalg.vecdot(gradients.flatten(1), values.flatten())


def normalised_in_place(pooled: Tensor, eps: float) -> Normalised:
    """BatchNorm of `pooled` (N, C, H, W), which is overwritten."""
    return Normalised.of(as_rows(pooled), eps, out=as_rows(pooled))
