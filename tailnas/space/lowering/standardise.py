"""BatchNorm's normalisation by the batch, for channels-last maps on a CPU, and the plain layers around it.

What it buys: accuracy. torch's own BatchNorm of channels-last maps has a relative error of 7e-6 in the variance of
[32, 16, 32, 32] (1e-7 channels-first), enough to flip ReLUs. Chosen by the CPU lowering for stem and cell inputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.layout import maps, rows
from tailnas.space.lowering.normalised import Normalised
from tailnas.space.operations import FactorizedReduce, ReLUConvBN


class Standardise(torch.autograd.Function):
    """(rows, C) to the same with mean 0 and variance 1 in every column; also mean and biased variance."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        result = Normalised.of(matrix, eps)
        ctx.save_for_backward(result.values, result.inverse)
        ctx.mark_non_differentiable(result.mean, result.variance)
        return result.values, result.mean, result.variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        values, inverse = ctx.saved_tensors
        factor = inverse / -len(values)
        through_mean, through_variance = gradient.sum(0) * factor, (gradient * values).sum(0) * factor
        return torch.addcmul(through_mean, values, through_variance).addcmul_(gradient, inverse), None


class EverySecondPixel(torch.autograd.Function):
    """Of channels-last (N, C, H, W) the pixels at even rows and columns and those at odd ones, as rows.

    Autograd's own gradient of such slices is not channels-last, and all that it meets becomes slow.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = images.shape
        return rows(images[:, :, ::2, ::2]), rows(images[:, :, 1::2, 1::2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape
        whole = gradients[0].new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)
        for start, gradient in enumerate(gradients):
            part = whole[:, :, start::2, start::2]
            part.copy_(maps(gradient, part))
        return whole


def normalised(matrix: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """`norm` of rows (N * H * W, C) by their own statistics, running statistics updated."""
    result, mean, variance = Standardise.apply(matrix, norm.eps)
    statistics = BatchStatistics()
    statistics.add([norm], [mean], [variance])
    statistics.update_running(len(matrix))
    return torch.addcmul(norm.bias, result, norm.weight) if norm.affine else result


def preprocess(layer: ReLUConvBN | FactorizedReduce, rectified: Tensor) -> Tensor:
    """A cell's input layer behind its ReLU."""
    if isinstance(layer, ReLUConvBN):
        return maps(normalised(F.linear(rows(rectified), layer.conv.weight.flatten(1)), layer.norm), rectified)
    pixels = EverySecondPixel.apply(rectified)
    halves = [
        F.linear(part, conv.weight.flatten(1)) for part, conv in zip(pixels, (layer.even, layer.odd), strict=True)
    ]
    return maps(normalised(torch.cat(halves, dim=1), layer.norm), rectified[:, :, ::2, ::2])
