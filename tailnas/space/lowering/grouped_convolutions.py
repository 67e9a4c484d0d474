"""The convolutions that leave one state of a cell, all edges side by side in the channels of a few operations.

What it buys: on small maps a cell edge by edge is overhead, and folding BatchNorm costs more products than it saves
passes. Chosen by the CPU lowering on small maps (see leaving.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.depthwise import WeightGradient, convolve, input_gradient
from tailnas.space.lowering.description import CellWeights, SourceNorms
from tailnas.space.lowering.layout import maps, plus, rows, without_gaps
from tailnas.space.lowering.nodes import Nodes


@dataclass
class Normalised:
    """One primitive's pointwise products of E edges by BatchNorm without affine weights: values (rows, E * C).

    inputs: what the products were taken of, likewise. mean, variance (biased), inverse: (E * C,).
    """

    inputs: Tensor
    values: Tensor
    mean: Tensor
    variance: Tensor
    inverse: Tensor

    @staticmethod
    def of(images: Tensor, weights: Tensor, eps: float) -> "Normalised":
        """images: (N, E * C, H, W); weights: (E, C, C)."""
        inputs = rows(images)
        values = pointwise(inputs, weights)
        mean = values.sum(0).div_(len(values))
        variance = values.sub_(mean).square().sum(0).div_(len(values))
        inverse = (variance + eps).rsqrt()
        return Normalised(inputs, values.mul_(inverse), mean, variance, inverse)

    def projection(self, gradient: Tensor) -> Tensor:
        """Sums over rows of an output gradient against the values, (E * C,)."""
        return (gradient * self.values).sum(0)

    def before(self, centred: Tensor, projection: Tensor, scale: Tensor | None = None) -> Tensor:
        """Gradient of the products from a centred output gradient, times `scale` (E * C,)."""
        factor = self.inverse if scale is None else self.inverse * scale
        return torch.addcmul(centred, self.values, projection / -len(centred)).mul_(factor)

    def input_gradient(self, gradient: Tensor, weights: Tensor, into: Tensor | None) -> Tensor:
        """Gradient of the inputs from that of the products; fills that of the weights (E, C, C)."""
        if into is not None:
            edges = len(weights)
            for edge, (left, right) in enumerate(
                zip(*(m.chunk(edges, 1) for m in (gradient, self.inputs)), strict=True)
            ):
                into[edge] = left.t() @ right
        return pointwise(gradient, weights.transpose(1, 2))


class GroupedConvolutions:
    """Kept from forward to backward; `rectified` is the ReLU of the state."""

    def __init__(self, rectified: Tensor, stride: int, weights: CellWeights, eps: float) -> None:
        self.stride, self.edges = stride, len(weights.first_3x3)
        self.repeated = repeated(rectified, self.edges)
        dilated, self.dilation = without_gaps(rectified, stride)
        self.dilated_input = self.repeated if stride == 1 else repeated(dilated, self.edges)
        self.first = [
            Normalised.of(convolve(self.repeated, kernels.flatten(0, 1), stride=stride), products, eps)
            for kernels, products in zip(
                (weights.first_3x3, weights.first_5x5), weights.first_pointwise.unbind(1), strict=True
            )
        ]
        self.hidden = [maps(F.relu(part.values), dilated) for part in self.first]
        kernels = (weights.second_3x3, weights.second_5x5, weights.dilated_3x3, weights.dilated_5x5)
        self.last = [
            Normalised.of(convolve(images, part.flatten(0, 1), dilation=dilation), products, eps)
            for images, part, dilation, products in zip(
                (*self.hidden, self.dilated_input, self.dilated_input),
                kernels,
                (1, 1, self.dilation, self.dilation),
                weights.last_pointwise.unbind(1),
                strict=True,
            )
        ]

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
        projections = [part.projection(gradient) for part in self.last]
        mixture = torch.stack([projection.view(self.edges, -1).sum(1) for projection in projections], dim=1)
        if not (into or wanted):
            return mixture, None
        first: Tensor | None = None
        dilated: Tensor | None = None
        dilated_weights = WeightGradient(self.dilated_input, dilation=self.dilation)
        for kind, (part, scale) in enumerate(zip(self.last, self._scales(weights), strict=True)):
            images = maps(
                part.input_gradient(
                    part.before(gradient, projections[kind], scale),
                    cell.last_pointwise[:, kind],
                    into.last_pointwise[:, kind] if into else None,
                ),
                self.hidden[0],
            )
            if kind < 2:
                through = self._first(kind, images, cell, into, wanted)
                if through is not None:
                    first = plus(first, through)
                continue
            kernels = (cell.dilated_3x3, cell.dilated_5x5)[kind - 2].flatten(0, 1)
            if into:
                (into.dilated_3x3, into.dilated_5x5)[kind - 2].flatten(0, 1).copy_(dilated_weights(images, kernels))
            if wanted:
                dilated = plus(dilated, input_gradient(images, kernels, self.dilated_input, dilation=self.dilation))
        if first is None or dilated is None:
            return mixture, None
        rectified = self._collapsed(first)
        (rectified if self.stride == 1 else rectified[:, :, ::2, ::2]).add_(self._collapsed(dilated))
        return mixture, rectified

    def _first(
        self, kind: int, images: Tensor, cell: CellWeights, into: CellWeights | None, wanted: bool
    ) -> Tensor | None:
        """Through a separable convolution's second depthwise and first half: the gradient of `repeated`."""
        kernels, hidden, part = (
            (cell.second_3x3, cell.second_5x5)[kind].flatten(0, 1),
            self.hidden[kind],
            self.first[kind],
        )
        if into:
            (into.second_3x3, into.second_5x5)[kind].flatten(0, 1).copy_(WeightGradient(hidden)(images, kernels))
        upper = input_gradient(images, kernels, hidden)
        torch.ops.aten.threshold_backward.grad_input(upper, hidden, 0, grad_input=upper)
        gradient = rows(upper)
        gradient.sub_(gradient.sum(0).div_(len(gradient)))
        images = maps(
            part.input_gradient(
                part.before(gradient, part.projection(gradient)),
                cell.first_pointwise[:, kind],
                into.first_pointwise[:, kind] if into else None,
            ),
            hidden,
        )
        kernels = (cell.first_3x3, cell.first_5x5)[kind].flatten(0, 1)
        if into:
            weight_gradient = WeightGradient(self.repeated, stride=self.stride)
            (into.first_3x3, into.first_5x5)[kind].flatten(0, 1).copy_(weight_gradient(images, kernels))
        return input_gradient(images, kernels, self.repeated, stride=self.stride) if wanted else None

    def _scales(self, weights: Tensor) -> list[Tensor]:
        """Mixture weights (edges, 4) for each primitive as (E * C,)."""
        return list(weights.repeat_interleave(self.repeated.shape[1] // self.edges, dim=0).unbind(1))

    def _collapsed(self, wide: Tensor) -> Tensor:
        """Sum over the edges of (N, E * C, H, W)."""
        return maps(rows(wide).unflatten(1, (self.edges, -1)).sum(1), wide)


def repeated(images: Tensor, edges: int) -> Tensor:
    """Channels-last maps as often as there are edges, side by side."""
    return maps(rows(images).repeat(1, edges), images)


def pointwise(matrix: Tensor, weights: Tensor) -> Tensor:
    """Each edge's columns of (rows, E * K) times its own weights (E, C, K) transposed: (rows, E * C)."""
    edges, width, _ = weights.shape
    result = matrix.new_empty(len(matrix), edges * width)
    for part, own, output in zip(matrix.chunk(edges, 1), weights, result.chunk(edges, 1), strict=True):
        torch.mm(part, own.t(), out=output)
    return result
