"""The convolutions that leave one state of a cell, edge by edge, BatchNorm and mixture weight folded into products.

What it buys: half the passes over the maps (batch_norm.py). Chosen on large maps, where all edges side by side would
leave the cache.

Lists run over edges and, within an edge, over primitives: sep_conv_3x3, sep_conv_5x5, then dil_conv_3x3, dil_conv_5x5.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tailnas.space.backends.cpu.batch_norm import FoldedBatchNorm, covariances, product_in_parts, summed_products
from tailnas.space.backends.cpu.maps import NodeSums, accumulated, as_maps, as_rows
from tailnas.space.backends.description import BatchStatistics, CellWeights, OutgoingNorms
from tailnas.space.depthwise import (
    KernelGradient,
    centring_biases,
    convolve,
    input_gradient,
    read_by_dilated,
    sum_over_batch,
    sums_read_by_taps,
)


class ConvolutionsByEdge:
    """Kept from forward to backward; `rectified` is the ReLU of the state."""

    def __init__(self, rectified: Tensor, stride: int, weights: CellWeights, eps: float) -> None:
        self.rectified, self.stride = rectified, stride
        output = rectified[:, :, ::stride, ::stride]
        pixels = output.numel() // output.shape[1]
        read = sums_read_by_taps(sum_over_batch(rectified).unsqueeze(2), stride=stride)
        of_3x3, of_5x5 = (centring_biases(read, kernels, pixels) for kernels in (weights.first_3x3, weights.first_5x5))
        first_biases = torch.stack(list(in_edge_order(of_3x3, of_5x5)))
        self.dilated_input, self.dilation = read_by_dilated(rectified, stride)
        self.first_inputs, covariance = covariances(
            as_rows(convolve(rectified, kernel, bias, stride=stride))
            for kernel, bias in zip(in_edge_order(weights.first_3x3, weights.first_5x5), first_biases, strict=True)
        )
        self.first = FoldedBatchNorm.of(weights.first_pointwise.flatten(0, 1), -first_biases, covariance, eps)
        self.hidden, hidden_sums = [], []
        for rows, folded in zip(self.first_inputs, self.first.folded_weights(None), strict=True):
            self.hidden.append(as_maps(torch.mm(rows, folded.t()).relu_(), output))
            hidden_sums.append(sum_over_batch(self.hidden[-1]))
        hidden_read = sums_read_by_taps(torch.stack(hidden_sums, dim=2))
        read = sums_read_by_taps(sum_over_batch(self.dilated_input).unsqueeze(2), dilation=self.dilation)
        last_biases = torch.stack(
            [
                centring_biases(hidden_read[:, :, 0::2], weights.second_3x3, pixels),
                centring_biases(hidden_read[:, :, 1::2], weights.second_5x5, pixels),
                centring_biases(read, weights.dilated_3x3, pixels),
                centring_biases(read, weights.dilated_5x5, pixels),
            ],
            dim=1,
        )

        def last_maps() -> Iterator[Tensor]:
            for edge, biases in enumerate(last_biases):
                yield convolve(self.hidden[2 * edge], weights.second_3x3[edge], biases[0])
                yield convolve(self.hidden[2 * edge + 1], weights.second_5x5[edge], biases[1])
                yield convolve(self.dilated_input, weights.dilated_3x3[edge], biases[2], dilation=self.dilation)
                yield convolve(self.dilated_input, weights.dilated_5x5[edge], biases[3], dilation=self.dilation)

        self.last_inputs, covariance = covariances(map(as_rows, last_maps()))
        self.last = FoldedBatchNorm.of(
            weights.last_pointwise.flatten(0, 1), -last_biases.flatten(0, 1), covariance, eps
        )

    def add_to(self, sums: NodeSums, targets: Sequence[int], mixture: Tensor) -> None:
        """Add the four primitives, weighted by (edges, 4), to the edges' target nodes."""
        for position, (rows, folded) in enumerate(
            zip(self.last_inputs, self.last.folded_weights(mixture.flatten()), strict=True)
        ):
            sums.add_product(targets[position // 4], rows, folded)

    def collect(self, statistics: BatchStatistics, norms: OutgoingNorms) -> None:
        """Hand over the batch statistics of all BatchNorms."""
        statistics.add(norms.first, self.first.mean.unbind(), self.first.variance.unbind())
        statistics.add(norms.last, self.last.mean.unbind(), self.last.variance.unbind())

    def backward(
        self,
        centred: list[Tensor],
        mixture: Tensor,
        weights: CellWeights,
        weight_gradients: CellWeights | None,
        state_needed: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the mixture weights (edges, 4) and, where needed, of `rectified`; fills `weight_gradients`.

        `centred`: gradients of each edge's node, rows (N * H * W, C) less their means.
        """
        cross = [product_in_parts(centred[position // 4], rows) for position, rows in enumerate(self.last_inputs)]
        last = self.last.backward(mixture.flatten(), summed_products(cross), len(centred[0]))
        if weight_gradients:
            weight_gradients.last_pointwise.flatten(0, 1).copy_(last.weights)
        if not (weight_gradients or state_needed):
            return last.scale.view_as(mixture), None
        first_gradients: list[Tensor] = []
        first_cross: list[Tensor] = []
        dilated: Tensor | None = None
        dilated_kernel_gradient = KernelGradient(self.dilated_input, dilation=self.dilation)
        repeated = [gradient for gradient in centred for _ in range(4)]
        for position, gradient in enumerate(last.of_inputs(repeated, self.last_inputs)):
            edge, primitive = divmod(position, 4)
            maps = as_maps(gradient, self.hidden[0])
            if primitive < 2:
                kernel = (weights.second_3x3, weights.second_5x5)[primitive][edge]
                hidden = self.hidden[2 * edge + primitive]
                if weight_gradients:
                    slots = (weight_gradients.second_3x3, weight_gradients.second_5x5)
                    slots[primitive][edge] = KernelGradient(hidden)(maps, kernel)
                upper = input_gradient(maps, kernel, hidden)
                torch.ops.aten.threshold_backward.grad_input(upper, hidden, 0, grad_input=upper)
                first_gradients.append(as_rows(upper))
                first_gradients[-1].sub_(first_gradients[-1].sum(0).div_(len(first_gradients[-1])))
                first_cross.append(product_in_parts(first_gradients[-1], self.first_inputs[len(first_cross)]))
                continue
            kernel = (weights.dilated_3x3, weights.dilated_5x5)[primitive - 2][edge]
            if weight_gradients:
                slots = (weight_gradients.dilated_3x3, weight_gradients.dilated_5x5)
                slots[primitive - 2][edge] = dilated_kernel_gradient(maps, kernel)
            if state_needed:
                dilated = accumulated(dilated, input_gradient(maps, kernel, self.dilated_input, dilation=self.dilation))
        rectified = self._first_backward(
            first_gradients, summed_products(first_cross), weights, weight_gradients, state_needed
        )
        if dilated is not None and rectified is not None:
            if self.stride == 1:
                rectified += dilated
            else:
                rectified[:, :, ::2, ::2] += dilated
        return last.scale.view_as(mixture), rectified

    def _first_backward(
        self,
        centred: list[Tensor],
        cross: Tensor,
        weights: CellWeights,
        weight_gradients: CellWeights | None,
        state_needed: bool,
    ) -> Tensor | None:
        """From the first BatchNorms' output gradients, centred, on; `cross` is their product with the inputs."""
        first = self.first.backward(None, cross, len(centred[0]))
        kernel_gradient = KernelGradient(self.rectified, stride=self.stride)
        if weight_gradients:
            weight_gradients.first_pointwise.flatten(0, 1).copy_(first.weights)
        rectified: Tensor | None = None
        for position, gradient in enumerate(first.of_inputs(centred, self.first_inputs)):
            edge, primitive = divmod(position, 2)
            maps = as_maps(gradient, self.hidden[0])
            kernel = (weights.first_3x3, weights.first_5x5)[primitive][edge]
            if weight_gradients:
                slots = (weight_gradients.first_3x3, weight_gradients.first_5x5)
                slots[primitive][edge] = kernel_gradient(maps, kernel)
            if state_needed:
                rectified = accumulated(rectified, input_gradient(maps, kernel, self.rectified, stride=self.stride))
        return rectified


def in_edge_order(of_3x3: Tensor, of_5x5: Tensor) -> Iterator[Tensor]:
    """What belongs to sep_conv_3x3 and to sep_conv_5x5 of E edges, (E, ...) each, edge by edge."""
    for pair in zip(of_3x3, of_5x5, strict=True):
        yield from pair
