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
from tailnas.space.operations import FactorizedReduce, ReLUConvBN


class Standardise(torch.autograd.Function):
    """(rows, C) to the same with mean 0 and variance 1 in every column; also mean and biased variance."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        count = len(matrix)
        mean = matrix.sum(0).div_(count)
        centred = matrix - mean
        variance = centred.square().sum(0).div_(count)
        inverse = (variance + eps).rsqrt()
        result = centred.mul_(inverse)
        ctx.save_for_backward(result, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        result, inverse = ctx.saved_tensors
        count = len(result)
        projection = (gradient * result).sum(0).div_(-count)
        constant = gradient.sum(0).div_(-count)
        return (gradient + constant).addcmul_(result, projection).mul_(inverse), None


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
    halves = [
        F.linear(rows(rectified[:, :, start::2, start::2]), conv.weight.flatten(1))
        for start, conv in enumerate((layer.even, layer.odd))
    ]
    return maps(normalised(torch.cat(halves, dim=1), layer.norm), rectified[:, :, ::2, ::2])
