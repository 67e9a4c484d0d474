"""The building blocks of DARTS cells (arXiv 1806.09055): every one maps (N, C, H, W) to (N, C', H/stride, W/stride)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.genotype.primitives import PRIMITIVES
from tailnas.space.depthwise import DepthwiseConv, every_second


class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, BatchNorm: brings a cell's input to the cell's width."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(images)))


class FactorizedReduce(nn.Module):
    """Halves the map without a pooling: two 1x1 convolutions of every second pixel, one of them shifted by one pixel.

    Pixels are taken before the convolution: oneDNN's backward of a strided 1x1 convolution of channels-last maps writes
    where it must not (torch 2.14.1, 5 images of 16x16).
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        images = F.relu(images)
        return self.norm(torch.cat([self.even(every_second(images)), self.odd(every_second(images, 1))], dim=1))


class SeparableConv(nn.Module):
    """ReLU, depthwise, pointwise, BatchNorm, twice; the first depthwise convolution carries the stride."""

    def __init__(self, channels: int, *, kernel: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.depthwise1 = DepthwiseConv(channels, kernel, stride=stride)
        self.pointwise1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, affine=affine)
        self.depthwise2 = DepthwiseConv(channels, kernel)
        self.pointwise2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        images = self.norm1(self.pointwise1(self.depthwise1(F.relu(images))))
        return self.norm2(self.pointwise2(self.depthwise2(F.relu(images))))


class DilatedConv(nn.Module):
    """ReLU, depthwise convolution with dilation 2, pointwise convolution, BatchNorm."""

    def __init__(self, channels: int, *, kernel: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel, stride=stride, dilation=2)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(F.relu(images))))


class PoolNorm(nn.Module):
    """A pooling followed by a BatchNorm without affine weights, as the search network has it."""

    def __init__(self, pool: nn.Module, channels: int) -> None:
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.pool(images))


def fast_layout(maps: Tensor) -> Tensor:
    """Channels last on a CPU, where operations one by one are about 1.3 times as fast for it; elsewhere as they are.

    Measured by what a training step takes: 12 channels, 4 cells, batch 64, 16x16, one thread.
    """
    return maps.contiguous(memory_format=torch.channels_last) if maps.device.type == "cpu" else maps


def concatenated(maps: Sequence[Tensor]) -> Tensor:
    """Maps side by side, by channels. On a CPU each has its gradient copied out of that of the whole, where it lies
    between those of the others: BatchNorm's backward takes seven times as long for it there.
    """
    for part in maps:
        if part.requires_grad:
            part.register_hook(fast_layout)
    return torch.cat([*maps], dim=1)


def max_pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(3, stride=stride, padding=1)


def average_pool(stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


def make_operation(primitive: str, channels: int, stride: int, *, affine: bool, pool_norm: bool) -> nn.Module:
    """One primitive on `channels` feature maps.

    `affine`: of all BatchNorms but those behind poolings, which are there with `pool_norm`. DARTS' search network has
    these alone, its derived network the others alone. `none` is no module: it contributes nothing anywhere.
    """
    match primitive:
        case "max_pool_3x3":
            return PoolNorm(max_pool(stride), channels) if pool_norm else max_pool(stride)
        case "avg_pool_3x3":
            return PoolNorm(average_pool(stride), channels) if pool_norm else average_pool(stride)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=affine)
        case "sep_conv_3x3":
            return SeparableConv(channels, kernel=3, stride=stride, affine=affine)
        case "sep_conv_5x5":
            return SeparableConv(channels, kernel=5, stride=stride, affine=affine)
        case "dil_conv_3x3":
            return DilatedConv(channels, kernel=3, stride=stride, affine=affine)
        case "dil_conv_5x5":
            return DilatedConv(channels, kernel=5, stride=stride, affine=affine)
    raise ValueError(f"primitive: {primitive!r}; allowed: {', '.join(PRIMITIVES[1:])}")
