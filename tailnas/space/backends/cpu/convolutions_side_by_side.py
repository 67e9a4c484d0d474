"""The convolutions that leave one state of a cell, all edges side by side in the channels of a few operations.

What it buys: on small maps a cell edge by edge is overhead, and folding BatchNorm costs more products than it saves
passes. Chosen on small maps (the limits stand in backend.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.space.backends.cpu.batch_norm import Normalised
from tailnas.space.backends.cpu.maps import NodeSums, accumulated, as_maps, as_rows
from tailnas.space.backends.description import BatchStatistics, CellWeights, OutgoingNorms
from tailnas.space.depthwise import KernelGradient, convolve, input_gradient, read_by_dilated


class ConvolutionsSideBySide:
    """Kept from forward to backward; `rectified` is the ReLU of the state.

    Only what BatchNorm made is kept. Weight gradients need inputs and outputs of the depthwise convolutions as well:
    they are computed a second time, which costs less than their memory, and not where the alphas alone are asked for.
    """

    def __init__(self, rectified: Tensor, stride: int, weights: CellWeights, eps: float) -> None:
        self.rectified, self.stride, self.edges = rectified, stride, len(weights.first_3x3)
        self.output = rectified[:, :, ::stride, ::stride]
        repeated = self.repeated_input()
        self.first = [
            normalised_products(convolve(repeated, kernels.flatten(0, 1), stride=stride), products, eps)
            for kernels, products in zip(first_kernels(weights), weights.first_pointwise.unbind(1), strict=True)
        ]
        dilated, dilation = read_by_dilated(repeated, stride)
        self.dilations = (1, 1, dilation, dilation)
        self.last = []
        for primitive, kernels in enumerate(last_kernels(weights)):
            output = convolve(
                self.last_input(primitive, dilated), kernels.flatten(0, 1), dilation=self.dilations[primitive]
            )
            self.last.append(normalised_products(output, weights.last_pointwise[:, primitive], eps))

    def repeated_input(self) -> Tensor:
        """The input maps as often as there are edges, side by side: (N, E * C, H, W)."""
        return as_maps(as_rows(self.rectified).repeat(1, self.edges), self.rectified)

    def last_input(self, primitive: int, dilated: Tensor) -> Tensor:
        """What the last depthwise convolution of a primitive reads, (N, E * C, H', W'): the ReLU of a separable one's
        first half, or `dilated`.
        """
        return as_maps(F.relu(self.first[primitive].values), self.output) if primitive < 2 else dilated

    def add_to(self, sums: NodeSums, targets: Sequence[int], mixture: Tensor) -> None:
        """Add the four primitives, weighted by (edges, 4), to the edges' target nodes."""
        scales = self._per_channel(mixture)
        total = self.last[0].values * scales[0]
        for part, scale in zip(self.last[1:], scales[1:], strict=True):
            total.addcmul_(part.values, scale)
        for node, arriving in zip(targets, total.chunk(self.edges, 1), strict=True):
            sums.add(node, arriving)

    def collect(self, statistics: BatchStatistics, norms: OutgoingNorms) -> None:
        """Hand over the batch statistics of all BatchNorms."""
        for those, parts in ((norms.first, self.first), (norms.last, self.last)):
            means, variances = (
                torch.stack([values.view(self.edges, -1) for values in column], dim=1).flatten(0, 1).unbind()
                for column in ([part.mean for part in parts], [part.variance for part in parts])
            )
            statistics.add(those, means, variances)

    def backward(
        self,
        centred: list[Tensor],
        mixture: Tensor,
        weights: CellWeights,
        weight_gradients: CellWeights | None,
        state_needed: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """As ConvolutionsByEdge.backward."""
        gradient = torch.cat(centred, dim=1)
        scratch = torch.empty_like(gradient)
        if not (weight_gradients or state_needed):
            return self._mixture_gradient([part.projection(gradient, scratch) for part in self.last]), None
        projections: list[Tensor] = []
        repeated = self.repeated_input()
        dilated = read_by_dilated(repeated, self.stride)[0] if weight_gradients else repeated
        through_first: Tensor | None = None
        through_dilated: Tensor | None = None
        for primitive, (part, scale) in enumerate(zip(self.last, self._per_channel(mixture), strict=True)):
            kernels, dilation = last_kernels(weights)[primitive].flatten(0, 1), self.dilations[primitive]
            products, projection = part.unscaled_input_gradient(gradient, scratch)
            projections.append(projection)
            factor = (part.inverse_std * scale).view(self.edges, -1, 1)
            maps = as_maps(
                pointwise(products, (factor * weights.last_pointwise[:, primitive]).transpose(1, 2)), self.output
            )
            if weight_gradients:
                source = self.last_input(primitive, dilated)
                inputs = as_rows(convolve(source, kernels, dilation=dilation))
                fill_pointwise_gradient(weight_gradients.last_pointwise[:, primitive], products, inputs, factor)
                slot = last_kernels(weight_gradients)[primitive].flatten(0, 1)
                slot.copy_(KernelGradient(source, dilation=dilation)(maps, kernels))
            if primitive < 2:
                upper = input_gradient(maps, kernels, self.output)
                of_repeated = self._first_backward(
                    primitive, upper, repeated, scratch, weights, weight_gradients, state_needed
                )
                if of_repeated is not None:
                    through_first = accumulated(through_first, of_repeated)
            elif state_needed:
                through_dilated = accumulated(
                    through_dilated, input_gradient(maps, kernels, self.output, dilation=dilation)
                )
        mixture_gradient = self._mixture_gradient(projections)
        if through_first is None or through_dilated is None:
            return mixture_gradient, None
        rectified = self._summed_over_edges(through_first)
        (rectified if self.stride == 1 else rectified[:, :, ::2, ::2]).add_(self._summed_over_edges(through_dilated))
        return mixture_gradient, rectified

    def _first_backward(
        self,
        primitive: int,
        upper: Tensor,
        repeated: Tensor,
        scratch: Tensor,
        weights: CellWeights,
        weight_gradients: CellWeights | None,
        state_needed: bool,
    ) -> Tensor | None:
        """Through a separable convolution's first half, from the gradient of its ReLU, `upper`: that of `repeated`."""
        part, kernels = self.first[primitive], first_kernels(weights)[primitive].flatten(0, 1)
        gradient = as_rows(upper)
        torch.ops.aten.threshold_backward.grad_input(gradient, part.values, 0, grad_input=gradient)
        products, _ = part.unscaled_input_gradient(gradient.sub_(gradient.mean(0)), scratch)
        factor = part.inverse_std.view(self.edges, -1, 1)
        maps = as_maps(
            pointwise(products, (factor * weights.first_pointwise[:, primitive]).transpose(1, 2)), self.output
        )
        if weight_gradients:
            inputs = as_rows(convolve(repeated, kernels, stride=self.stride))
            fill_pointwise_gradient(weight_gradients.first_pointwise[:, primitive], products, inputs, factor)
            slot = first_kernels(weight_gradients)[primitive].flatten(0, 1)
            slot.copy_(KernelGradient(repeated, stride=self.stride)(maps, kernels))
        return input_gradient(maps, kernels, repeated, stride=self.stride) if state_needed else None

    def _mixture_gradient(self, projections: list[Tensor]) -> Tensor:
        """Gradients of the mixture weights (edges, 4) from each primitive's projection."""
        return torch.stack([projection.view(self.edges, -1).sum(1) for projection in projections], dim=1)

    def _per_channel(self, mixture: Tensor) -> list[Tensor]:
        """Mixture weights (edges, 4), of each primitive as (E * C,)."""
        return list(mixture.repeat_interleave(self.rectified.shape[1], dim=0).unbind(1))

    def _summed_over_edges(self, maps: Tensor) -> Tensor:
        """(N, E * C, H, W) to (N, C, H, W)."""
        return as_maps(as_rows(maps).unflatten(1, (self.edges, -1)).sum(1), maps)


def first_kernels(weights: CellWeights) -> tuple[Tensor, Tensor]:
    return weights.first_3x3, weights.first_5x5


def last_kernels(weights: CellWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return weights.second_3x3, weights.second_5x5, weights.dilated_3x3, weights.dilated_5x5


def normalised_products(maps: Tensor, weights: Tensor, eps: float) -> Normalised:
    """One primitive's pointwise products of E edges by BatchNorm: maps (N, E * C, H, W), weights (E, C, C)."""
    products = pointwise(as_rows(maps), weights)
    return Normalised.of(products, eps, out=products)


def pointwise(rows: Tensor, weights: Tensor) -> Tensor:
    """Each edge's columns of (rows, E * K) times its own weights (E, C, K) transposed: (rows, E * C)."""
    edges, width, _ = weights.shape
    result = rows.new_empty(len(rows), edges * width)
    torch.bmm(by_edge(rows, edges), weights.transpose(1, 2), out=by_edge(result, edges))
    return result


def fill_pointwise_gradient(slot: Tensor, gradient: Tensor, inputs: Tensor, factor: Tensor) -> None:
    """Fill (E, C, K) with the gradients of `pointwise`'s weights. The output gradient is `factor` (E, C, 1) times
    `gradient`.
    """
    torch.bmm(by_edge(gradient, len(slot)).transpose(1, 2), by_edge(inputs, len(slot)), out=slot)
    slot.mul_(factor)


def by_edge(rows: Tensor, edges: int) -> Tensor:
    """(rows, E * C) as (E, rows, C), without a copy."""
    return rows.unflatten(1, (edges, -1)).transpose(0, 1)
