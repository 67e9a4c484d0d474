"""The building blocks of DARTS cells (arXiv 1806.09055): every one maps (N, C, H, W) to (N, C', H/stride, W/stride)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReLUConvBN(nn.Module):
    """ReLU, 1x1 convolution, BatchNorm: brings a cell's input to the cell's width."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(images)))


class FactorizedReduce(nn.Module):
    """Halves the map without a pooling: two strided 1x1 convolutions, one of them shifted by one pixel."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        images = F.relu(images)
        return self.norm(torch.cat([self.even(images), self.odd(images[:, :, 1:, 1:])], dim=1))


class SeparableConv(nn.Module):
    """ReLU, depthwise, pointwise, BatchNorm, twice; the first depthwise convolution carries the stride."""

    def __init__(self, channels: int, *, kernel: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.depthwise1 = depthwise(channels, kernel, stride=stride)
        self.pointwise1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, affine=affine)
        self.depthwise2 = depthwise(channels, kernel)
        self.pointwise2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, images: Tensor) -> Tensor:
        images = self.norm1(self.pointwise1(self.depthwise1(F.relu(images))))
        return self.norm2(self.pointwise2(self.depthwise2(F.relu(images))))


class DilatedConv(nn.Module):
    """ReLU, depthwise convolution with dilation 2, pointwise convolution, BatchNorm."""

    def __init__(self, channels: int, *, kernel: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.depthwise = depthwise(channels, kernel, stride=stride, dilation=2)
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


def depthwise(channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A k x k convolution of each channel alone, padded so that stride 1 keeps the map's size."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(
        channels, channels, kernel, stride=stride, padding=padding, dilation=dilation, groups=channels, bias=False
    )
