"""The convolutions that leave one state of a cell, with BatchNorm and mixture weight folded into matrix products.

What it buys: see normalised_product.py. Chosen by the CPU lowering on large maps, edge by edge, since all edges side by
side would leave the cache there.

Lists run over edges and, within an edge, over primitives: sep_conv_3x3, sep_conv_5x5, then dil_conv_3x3, dil_conv_5x5.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tailnas.space.depthwise import WeightGradient, convolve, image_sum, input_gradient, negated_means, tap_sums
from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.description import CellWeights, SourceNorms
from tailnas.space.lowering.layout import maps, plus, rows, without_gaps
from tailnas.space.lowering.nodes import Nodes
from tailnas.space.lowering.normalised_product import Gradients, NormalisedProduct, covariances, products, summed


class FoldedConvolutions:
    """Kept from forward to backward; `rectified` is the ReLU of the state."""

    def __init__(self, rectified: Tensor, stride: int, weights: CellWeights, eps: float) -> None:
        self.rectified, self.stride = rectified, stride
        output = rectified[:, :, ::stride, ::stride]
        pixels = output.numel() // output.shape[1]
        taps = tap_sums(image_sum(rectified).unsqueeze(2), stride=stride)
        first_biases = both(
            negated_means(taps, weights.first_3x3, pixels), negated_means(taps, weights.first_5x5, pixels)
        )
        self.dilated_input, self.dilation = without_gaps(rectified, stride)
        self.first_inputs, covariance = covariances(
            rows(convolve(rectified, kernel, bias, stride=stride))
            for kernel, bias in zip(alternating(weights.first_3x3, weights.first_5x5), first_biases, strict=True)
        )
        self.first = NormalisedProduct.of(weights.first_pointwise.flatten(0, 1), -first_biases, covariance, eps)
        self.hidden, hidden_sums = [], []
        for matrix, product in zip(self.first_inputs, self.first.folded(None), strict=True):
            self.hidden.append(maps(torch.mm(matrix, product.t()).relu_(), output))
            hidden_sums.append(image_sum(self.hidden[-1]))
        hidden_taps = tap_sums(torch.stack(hidden_sums, dim=2))
        taps = tap_sums(image_sum(self.dilated_input).unsqueeze(2), dilation=self.dilation)
        last_biases = torch.stack(
            [
                negated_means(hidden_taps[:, :, 0::2], weights.second_3x3, pixels),
                negated_means(hidden_taps[:, :, 1::2], weights.second_5x5, pixels),
                negated_means(taps, weights.dilated_3x3, pixels),
                negated_means(taps, weights.dilated_5x5, pixels),
            ],
            dim=1,
        )

        def last_maps() -> Iterator[Tensor]:
            for edge, biases in enumerate(last_biases):
                yield convolve(self.hidden[2 * edge], weights.second_3x3[edge], biases[0])
                yield convolve(self.hidden[2 * edge + 1], weights.second_5x5[edge], biases[1])
                yield convolve(self.dilated_input, weights.dilated_3x3[edge], biases[2], dilation=self.dilation)
                yield convolve(self.dilated_input, weights.dilated_5x5[edge], biases[3], dilation=self.dilation)

        self.last_inputs, covariance = covariances(map(rows, last_maps()))
        self.last = NormalisedProduct.of(
            weights.last_pointwise.flatten(0, 1), -last_biases.flatten(0, 1), covariance, eps
        )

    def send(self, weights: Tensor, nodes: Nodes, targets: Sequence[int]) -> None:
        """Add the four primitives, weighted by (edges, 4), to the edges' target nodes."""
        for position, (matrix, product) in enumerate(
            zip(self.last_inputs, self.last.folded(weights.flatten()), strict=True)
        ):
            nodes.add_product(targets[position // 4], matrix, product)

    def record(self, norms: SourceNorms, statistics: BatchStatistics) -> None:
        statistics.add(norms.first, self.first.mean.unbind(), self.first.variance.unbind())
        statistics.add(norms.last, self.last.mean.unbind(), self.last.variance.unbind())

    def backward(
        self, centred: list[Tensor], weights: Tensor, cell: CellWeights, into: CellWeights | None, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the mixture weights (edges, 4) and, where wanted, of `rectified`; fills those of the cell's
        weights.

        `centred`: of each edge's node, rows (N * H * W, C) less their means.
        """
        cross = [products(centred[position // 4], matrix) for position, matrix in enumerate(self.last_inputs)]
        last = self.last.backward(weights.flatten(), summed(cross), len(centred[0]))
        if into:
            into.last_pointwise.flatten(0, 1).copy_(last.weights)
        if not (into or wanted):
            return last.scale.view_as(weights), None
        first_gradients: list[Tensor] = []
        first_cross: list[Tensor] = []
        dilated: Tensor | None = None
        dilated_weights = WeightGradient(self.dilated_input, dilation=self.dilation)
        repeated = [gradient for gradient in centred for _ in range(4)]
        for position, gradient in enumerate(through_products(repeated, self.last_inputs, last)):
            edge, kind = divmod(position, 4)
            images = maps(gradient, self.hidden[0])
            if kind < 2:
                kernel = (cell.second_3x3, cell.second_5x5)[kind][edge]
                hidden = self.hidden[2 * edge + kind]
                if into:
                    (into.second_3x3, into.second_5x5)[kind][edge] = WeightGradient(hidden)(images, kernel)
                upper = input_gradient(images, kernel, hidden)
                torch.ops.aten.threshold_backward.grad_input(upper, hidden, 0, grad_input=upper)
                first_gradients.append(rows(upper))
                first_gradients[-1].sub_(first_gradients[-1].sum(0).div_(len(first_gradients[-1])))
                first_cross.append(products(first_gradients[-1], self.first_inputs[len(first_cross)]))
                continue
            kernel = (cell.dilated_3x3, cell.dilated_5x5)[kind - 2][edge]
            if into:
                (into.dilated_3x3, into.dilated_5x5)[kind - 2][edge] = dilated_weights(images, kernel)
            if wanted:
                dilated = plus(dilated, input_gradient(images, kernel, self.dilated_input, dilation=self.dilation))
        rectified = self._first(first_gradients, summed(first_cross), cell, into, wanted)
        if dilated is not None and rectified is not None:
            if self.stride == 1:
                rectified += dilated
            else:
                rectified[:, :, ::2, ::2] += dilated
        return last.scale.view_as(weights), rectified

    def _first(
        self, gradients: list[Tensor], cross: Tensor, cell: CellWeights, into: CellWeights | None, wanted: bool
    ) -> Tensor | None:
        """From the first BatchNorms' outputs on. `gradients` are centred, `cross` is their product with the inputs."""
        first = self.first.backward(None, cross, len(gradients[0]))
        weight_gradient = WeightGradient(self.rectified, stride=self.stride)
        if into:
            into.first_pointwise.flatten(0, 1).copy_(first.weights)
        rectified: Tensor | None = None
        for position, gradient in enumerate(through_products(gradients, self.first_inputs, first)):
            edge, kind = divmod(position, 2)
            images = maps(gradient, self.hidden[0])
            kernel = (cell.first_3x3, cell.first_5x5)[kind][edge]
            if into:
                (into.first_3x3, into.first_5x5)[kind][edge] = weight_gradient(images, kernel)
            if wanted:
                rectified = plus(rectified, input_gradient(images, kernel, self.rectified, stride=self.stride))
        return rectified


def through_products(centred: list[Tensor], inputs: list[Tensor], result: Gradients) -> Iterator[Tensor]:
    """Gradients of the inputs of normalised products, one after the other, from the outputs' centred gradients."""
    for gradient, matrix, direct, through_variance in zip(
        centred, inputs, result.direct, result.through_variance, strict=True
    ):
        yield torch.mm(gradient, direct).addmm_(matrix, through_variance)


def alternating(threes: Tensor, fives: Tensor) -> Iterator[Tensor]:
    """Kernels of the 3x3 and the 5x5 primitive, edge by edge."""
    for pair in zip(threes, fives, strict=True):
        yield from pair


def both(threes: Tensor, fives: Tensor) -> Tensor:
    """What belongs to the 3x3 and the 5x5 primitive of E edges, (E, ...) twice, edge by edge: (2E, ...)."""
    return torch.stack([threes, fives], dim=1).flatten(0, 1)
