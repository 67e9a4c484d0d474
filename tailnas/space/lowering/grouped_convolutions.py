"""The convolutions that leave one state of a cell, all edges side by side in the channels of a few operations.

What it buys: on small maps a cell edge by edge is overhead, and folding BatchNorm costs more products than it saves
passes. Chosen by the CPU lowering on small maps (see leaving.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.space.depthwise import WeightGradient, convolve, input_gradient
from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.description import CellWeights, SourceNorms
from tailnas.space.lowering.layout import maps, plus, rows, without_gaps
from tailnas.space.lowering.nodes import Nodes
from tailnas.space.lowering.normalised import Normalised


class GroupedConvolutions:
    """Kept from forward to backward; `rectified` is the ReLU of the state.

    Only what BatchNorm made is kept. Weight gradients need inputs and outputs of the depthwise convolutions as well:
    they are computed a second time, which costs less than their memory, and not where the alphas alone are asked for.
    """

    def __init__(self, rectified: Tensor, stride: int, weights: CellWeights, eps: float) -> None:
        self.rectified, self.stride, self.edges = rectified, stride, len(weights.first_3x3)
        self.output = rectified[:, :, ::stride, ::stride]
        wide = self.repeated()
        self.first = [
            normalised_products(convolve(wide, kernels.flatten(0, 1), stride=stride), products, eps)
            for kernels, products in zip(first_kernels(weights), weights.first_pointwise.unbind(1), strict=True)
        ]
        dense, dilation = without_gaps(wide, stride)
        self.dilations = (1, 1, dilation, dilation)
        self.last = []
        for kind, kernels in enumerate(last_kernels(weights)):
            output = convolve(self.last_source(kind, dense), kernels.flatten(0, 1), dilation=self.dilations[kind])
            self.last.append(normalised_products(output, weights.last_pointwise[:, kind], eps))

    def repeated(self) -> Tensor:
        """The input maps as often as there are edges, side by side: (N, E * C, H, W)."""
        return maps(rows(self.rectified).repeat(1, self.edges), self.rectified)

    def last_source(self, kind: int, dense: Tensor) -> Tensor:
        """What the last depthwise convolution of a primitive reads, (N, E * C, H', W'): `dense` or, in a separable one,
        the ReLU of its first half.
        """
        return maps(F.relu(self.first[kind].values), self.output) if kind < 2 else dense

    def send(self, weights: Tensor, nodes: Nodes, targets: Sequence[int]) -> None:
        """Add the four primitives, weighted by (edges, 4), to the edges' target nodes."""
        scales = self._scales(weights)
        mixture = self.last[0].values * scales[0]
        for part, scale in zip(self.last[1:], scales[1:], strict=True):
            mixture.addcmul_(part.values, scale)
        for node, arriving in zip(targets, mixture.chunk(self.edges, 1), strict=True):
            nodes.add(node, arriving)

    def record(self, norms: SourceNorms, statistics: BatchStatistics) -> None:
        for those, parts in ((norms.first, self.first), (norms.last, self.last)):
            means, variances = (
                torch.stack([values.view(self.edges, -1) for values in column], dim=1).flatten(0, 1).unbind()
                for column in ([part.mean for part in parts], [part.variance for part in parts])
            )
            statistics.add(those, means, variances)

    def backward(
        self, centred: list[Tensor], weights: Tensor, cell: CellWeights, into: CellWeights | None, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As FoldedConvolutions.backward."""
        gradient = torch.cat(centred, dim=1)
        scratch = torch.empty_like(gradient)
        if not (into or wanted):
            return self._mixture([part.projection(gradient, scratch) for part in self.last]), None
        projections: list[Tensor] = []
        wide = self.repeated()
        dense = without_gaps(wide, self.stride)[0] if into else wide
        first: Tensor | None = None
        dilated: Tensor | None = None
        for kind, (part, scale) in enumerate(zip(self.last, self._scales(weights), strict=True)):
            kernels, dilation = last_kernels(cell)[kind].flatten(0, 1), self.dilations[kind]
            products, projection = part.before(gradient, scratch)
            projections.append(projection)
            factor = (part.inverse * scale).view(self.edges, -1, 1)
            images = maps(pointwise(products, (factor * cell.last_pointwise[:, kind]).transpose(1, 2)), self.output)
            if into:
                source = self.last_source(kind, dense)
                inputs = rows(convolve(source, kernels, dilation=dilation))
                weight_gradients(products, inputs, factor, into.last_pointwise[:, kind])
                slot = last_kernels(into)[kind].flatten(0, 1)
                slot.copy_(WeightGradient(source, dilation=dilation)(images, kernels))
            if kind < 2:
                upper = input_gradient(images, kernels, self.output)
                through = self._first(kind, upper, wide, scratch, cell, into, wanted)
                if through is not None:
                    first = plus(first, through)
            elif wanted:
                dilated = plus(dilated, input_gradient(images, kernels, self.output, dilation=dilation))
        mixture = self._mixture(projections)
        if first is None or dilated is None:
            return mixture, None
        rectified = self._collapsed(first)
        (rectified if self.stride == 1 else rectified[:, :, ::2, ::2]).add_(self._collapsed(dilated))
        return mixture, rectified

    def _first(
        self,
        kind: int,
        upper: Tensor,
        wide: Tensor,
        scratch: Tensor,
        cell: CellWeights,
        into: CellWeights | None,
        wanted: bool,
    ) -> Tensor | None:
        """Through a separable convolution's first half, from the gradient of `hidden`: the gradient of `repeated`."""
        part, kernels = self.first[kind], first_kernels(cell)[kind].flatten(0, 1)
        gradient = rows(upper)
        torch.ops.aten.threshold_backward.grad_input(gradient, part.values, 0, grad_input=gradient)
        products, _ = part.before(gradient.sub_(gradient.mean(0)), scratch)
        factor = part.inverse.view(self.edges, -1, 1)
        images = maps(pointwise(products, (factor * cell.first_pointwise[:, kind]).transpose(1, 2)), self.output)
        if into:
            inputs = rows(convolve(wide, kernels, stride=self.stride))
            weight_gradients(products, inputs, factor, into.first_pointwise[:, kind])
            slot = first_kernels(into)[kind].flatten(0, 1)
            slot.copy_(WeightGradient(wide, stride=self.stride)(images, kernels))
        return input_gradient(images, kernels, wide, stride=self.stride) if wanted else None

    def _mixture(self, projections: list[Tensor]) -> Tensor:
        """Gradients of the mixture weights (edges, 4) from each primitive's projection."""
        return torch.stack([projection.view(self.edges, -1).sum(1) for projection in projections], dim=1)

    def _scales(self, weights: Tensor) -> list[Tensor]:
        """Mixture weights (edges, 4) for each primitive as (E * C,)."""
        return list(weights.repeat_interleave(self.rectified.shape[1], dim=0).unbind(1))

    def _collapsed(self, wide: Tensor) -> Tensor:
        """Sum over the edges of (N, E * C, H, W)."""
        return maps(rows(wide).unflatten(1, (self.edges, -1)).sum(1), wide)


def first_kernels(weights: CellWeights) -> tuple[Tensor, Tensor]:
    return weights.first_3x3, weights.first_5x5


def last_kernels(weights: CellWeights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return weights.second_3x3, weights.second_5x5, weights.dilated_3x3, weights.dilated_5x5


def normalised_products(images: Tensor, weights: Tensor, eps: float) -> Normalised:
    """One primitive's pointwise products of E edges by BatchNorm: images (N, E * C, H, W), weights (E, C, C)."""
    products = pointwise(rows(images), weights)
    return Normalised.of(products, eps, out=products)


def pointwise(matrix: Tensor, weights: Tensor) -> Tensor:
    """Each edge's columns of (rows, E * K) times its own weights (E, C, K) transposed: (rows, E * C)."""
    edges, width, _ = weights.shape
    result = matrix.new_empty(len(matrix), edges * width)
    torch.bmm(by_edge(matrix, edges), weights.transpose(1, 2), out=by_edge(result, edges))
    return result


def weight_gradients(gradient: Tensor, inputs: Tensor, factor: Tensor, into: Tensor) -> None:
    """Fill (E, C, K) with the gradients of `pointwise`'s weights. The output gradient is `factor` (E, C, 1) times
    `gradient`.
    """
    torch.bmm(by_edge(gradient, len(into)).transpose(1, 2), by_edge(inputs, len(into)), out=into)
    into.mul_(factor)


def by_edge(matrix: Tensor, edges: int) -> Tensor:
    """(rows, E * C) as (E, rows, C), without a copy."""
    return matrix.unflatten(1, (edges, -1)).transpose(0, 1)
