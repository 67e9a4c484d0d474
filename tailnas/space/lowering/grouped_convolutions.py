"""The convolutions that leave one state of a cell, all edges side by side in the channels of a few operations.

What it buys: on small maps a cell edge by edge is overhead, and folding BatchNorm costs more products than it saves
passes. Chosen by the CPU lowering on small maps (see leaving.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.space.depthwise import WeightGradient, convolve, input_gradient
from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.description import CellWeights, SourceNorms
from tailnas.space.lowering.layout import maps, plus, rows, without_gaps
from tailnas.space.lowering.nodes import Nodes


@dataclass
class Normalised:
    """One primitive's pointwise products of E edges by BatchNorm without affine weights: values (rows, E * C).

    mean, variance (biased), inverse: (E * C,).
    """

    values: Tensor
    mean: Tensor
    variance: Tensor
    inverse: Tensor

    @staticmethod
    def of(images: Tensor, weights: Tensor, eps: float) -> "Normalised":
        """images: (N, E * C, H, W); weights: (E, C, C)."""
        values = pointwise(rows(images), weights)
        mean, variance = moments(values)
        inverse = (variance + eps).rsqrt()
        return Normalised(torch.addcmul(-mean * inverse, values, inverse, out=values), mean, variance, inverse)

    def projection(self, gradient: Tensor, scratch: Tensor) -> Tensor:
        """Sums over rows of an output gradient against the values, (E * C,). `scratch`: like them, overwritten."""
        return torch.mul(gradient, self.values, out=scratch).sum(0)

    def before(self, centred: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """From an output gradient with centred columns the gradient of the products, in `scratch` and to be multiplied
        by `inverse`, and the projection.
        """
        projection = self.projection(centred, scratch)
        return torch.addcmul(centred, self.values, projection / -len(centred), out=scratch), projection


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
            Normalised.of(convolve(wide, kernels.flatten(0, 1), stride=stride), products, eps)
            for kernels, products in zip(first_kernels(weights), weights.first_pointwise.unbind(1), strict=True)
        ]
        self.last = [
            Normalised.of(self.last_input(kind, kernels.flatten(0, 1), wide), products, eps)
            for kind, (kernels, products) in enumerate(
                zip(last_kernels(weights), weights.last_pointwise.unbind(1), strict=True)
            )
        ]

    def repeated(self) -> Tensor:
        """The input maps as often as there are edges, side by side: (N, E * C, H, W)."""
        return maps(rows(self.rectified).repeat(1, self.edges), self.rectified)

    def hidden(self, kind: int) -> Tensor:
        """What the second half of a separable convolution reads, (N, E * C, H', W')."""
        return maps(F.relu(self.first[kind].values), self.output)

    def last_input(self, kind: int, kernels: Tensor, wide: Tensor) -> Tensor:
        """Outputs of the last depthwise convolution of a primitive, (N, E * C, H', W'). `wide`: `repeated()`."""
        if kind < 2:
            return convolve(self.hidden(kind), kernels)
        dense, dilation = without_gaps(wide, self.stride)
        return convolve(dense, kernels, dilation=dilation)

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
        dense, dilation = without_gaps(wide, self.stride)
        dilated_weights = WeightGradient(dense, dilation=dilation)
        first: Tensor | None = None
        dilated: Tensor | None = None
        for kind, (part, scale) in enumerate(zip(self.last, self._scales(weights), strict=True)):
            kernels = last_kernels(cell)[kind].flatten(0, 1)
            products, projection = part.before(gradient, scratch)
            projections.append(projection)
            factor = (part.inverse * scale).view(self.edges, -1, 1)
            if into:
                inputs = rows(self.last_input(kind, kernels, wide))
                weight_gradients(products, inputs, factor, into.last_pointwise[:, kind])
            images = maps(pointwise(products, (factor * cell.last_pointwise[:, kind]).transpose(1, 2)), self.output)
            if kind < 2:
                if into:
                    slot = last_kernels(into)[kind].flatten(0, 1)
                    slot.copy_(WeightGradient(self.hidden(kind))(images, kernels))
                upper = input_gradient(images, kernels, self.output)
                through = self._first(kind, upper, wide, scratch, cell, into, wanted)
                if through is not None:
                    first = plus(first, through)
                continue
            if into:
                last_kernels(into)[kind].flatten(0, 1).copy_(dilated_weights(images, kernels))
            if wanted:
                dilated = plus(dilated, input_gradient(images, kernels, dense, dilation=dilation))
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
        if into:
            inputs = rows(convolve(wide, kernels, stride=self.stride))
            weight_gradients(products, inputs, factor, into.first_pointwise[:, kind])
        images = maps(pointwise(products, (factor * cell.first_pointwise[:, kind]).transpose(1, 2)), self.output)
        if into:
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


PARTS = 16


def moments(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each column, from those of parts of the rows.

    torch's one-pass kernel adds row after row in float32: of 8192 rows the variance is off by 4e-6, of parts of 512 by
    2e-7, in the same time. A part is every 16th row, so that it is a view with more columns.
    """
    count, columns = matrix.shape
    parts = gcd(count, PARTS)
    means, variances = torch.batch_norm_update_stats(matrix.view(-1, parts * columns), None, None, 0.0)
    means, variances = means.view(parts, columns).double(), variances.view(parts, columns).double()
    mean = means.mean(0)
    return mean.to(matrix.dtype), (variances + (means - mean).square()).mean(0).to(matrix.dtype)


def by_edge(matrix: Tensor, edges: int) -> Tensor:
    """(rows, E * C) as (E, rows, C), without a copy."""
    return matrix.unflatten(1, (edges, -1)).transpose(0, 1)
