"""Depthwise convolutions of channels-last maps on a CPU, by the detours that torch's kernels make worth while.

What it buys (milliseconds, one thread, a [32, 16, 32, 32] map, Xeon with AVX-512, torch 2.14): gradient of the input
as a convolution with the flipped kernel 0.2 instead of 0.3 (dilated: 0.2 instead of 20 channels-first); gradient of a
5x5 kernel as two of 5x3, for which torch has vectorised code, 0.8 instead of 3.5; of a dilated one on the four
interleaved half-resolution maps 0.5 instead of 2, 3x3, and 1.2 instead of 4, 5x5. Chosen by the CPU backend always, by
networks of separate operations in training.
"""

from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def convolve(
    images: Tensor, kernel: Tensor, bias: Tensor | None = None, *, stride: int = 1, dilation: int = 1
) -> Tensor:
    """The depthwise convolution of (N, C, H, W) with (C, 1, k, k) that keeps H and W at stride 1."""
    padding = dilation * (kernel.shape[-1] - 1) // 2
    return F.conv2d(images, kernel, bias, stride, padding, dilation, kernel.shape[0])


class DepthwiseConv(nn.Conv2d):
    """A k x k convolution of each channel alone, padded so that stride 1 keeps the map's size."""

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and is_channels_last(images) and images.device.type == "cpu":
            stride, dilation = self.stride[0], self.dilation[0]
            if dilation == 2:
                images, dilation = read_by_dilated(images, stride)
                stride = 1
            output: Tensor = _Convolution.apply(images, self.weight, stride, dilation)
            return output
        return super().forward(images)


def is_channels_last(maps: Tensor) -> bool:
    """Whether (N, C, H, W) lies in memory as (N, H, W, C), and not as (N, C, H, W) just as well."""
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def every_second(maps: Tensor, start: int = 0) -> Tensor:
    """Rows and columns `start`, `start` + 2, ... of (N, C, H, W), with gradients in the layout of `maps`.

    The gradient of a slice is made of zeros in the order of the dimensions that were sliced; channels-first gradients
    of channels-last maps slow down whatever comes before: a ReLU's takes four times as long.
    """
    if not is_channels_last(maps):
        return maps[:, :, start::2, start::2]
    return maps.permute(0, 2, 3, 1)[:, start::2, start::2].permute(0, 3, 1, 2)


def read_by_dilated(images: Tensor, stride: int) -> tuple[Tensor, int]:
    """What a convolution with dilation 2 reads, channels-last, and the dilation that it has there, at stride 1.

    At stride 2 it reads every second pixel only, and is the ordinary convolution of those.
    """
    if stride == 1:
        return images, 2
    return every_second(images).contiguous(memory_format=torch.channels_last), 1


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(images, kernel)
        ctx.geometry = {"stride": stride, "dilation": dilation}
        return convolve(images, kernel, **ctx.geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, kernel = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images, of_kernel, *_ = ctx.needs_input_grad
        return (
            input_gradient(gradient, kernel, images, **ctx.geometry) if of_images else None,
            KernelGradient(images, **ctx.geometry)(gradient, kernel) if of_kernel else None,
            None,
            None,
        )


def sum_over_batch(images: Tensor) -> Tensor:
    """(N, C, H, W) to (H, W, C)."""
    return images.permute(0, 2, 3, 1).sum(0)


TAPS = 5
"""Side of the largest kernel. A tap is one of a kernel's k x k positions."""


def sums_read_by_taps(sums: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """For each tap of a 5x5 kernel the sum of all input pixels that it is multiplied with.

    `sums`: the input maps, summed over the batch, (H, W, n, C); returns (5, 5, n, C). The inner taps are those of a 3x3
    kernel.
    """
    height, width = sums.shape[:2]
    reads = [_pixels_read(size, stride, dilation, sums.dtype) for size in (height, width)]
    return torch.matmul(reads[1], (reads[0] @ sums.flatten(1)).view(TAPS, width, -1)).view(TAPS, TAPS, *sums.shape[2:])


def centring_biases(read: Tensor, kernels: Tensor, pixels: int) -> Tensor:
    """Biases (n, C) that give the outputs of n convolutions mean 0 over all `pixels`: minus the means without them.

    A convolution is linear, so that its kernels (n, C, 1, k, k) and the `sums_read_by_taps` (5, 5, n or 1, C) tell the
    means without another pass over the maps.
    """
    border = (TAPS - kernels.shape[-1]) // 2
    inner = read[border : TAPS - border, border : TAPS - border].permute(2, 3, 0, 1)
    return (kernels.squeeze(2) * inner).sum((2, 3)).div_(-pixels)


@cache
def _pixels_read(size: int, stride: int, dilation: int, dtype: torch.dtype) -> Tensor:
    """(5, size), along one side of the map: 1 where the tap reads the pixel for some output pixel, else 0."""
    reads = torch.zeros(TAPS, size, dtype=dtype)
    for tap in range(TAPS):
        pixels = torch.arange(0, size, stride) + (tap - TAPS // 2) * dilation
        reads[tap, pixels[(pixels >= 0) & (pixels < size)]] = 1
    return reads


def input_gradient(gradient: Tensor, kernel: Tensor, like: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """Gradient of convolve's input `like` from that of its output."""
    if stride == 1:
        return convolve(gradient, kernel.flip(2, 3), dilation=dilation)
    padding = dilation * (kernel.shape[-1] - 1) // 2
    return _backward(gradient, like, kernel, stride, (padding, padding), dilation, weight=False)


class KernelGradient:
    """Gradients of kernels that all convolve the same images, from those of the outputs."""

    def __init__(self, images: Tensor, *, stride: int = 1, dilation: int = 1) -> None:
        self.images = images
        self.stride = stride
        self.dilation = dilation
        self.interleaved = dilation == 2 and stride == 1 and images.shape[2] % 2 == images.shape[3] % 2 == 0

    def __call__(self, gradient: Tensor, kernel: Tensor) -> Tensor:
        """(C, 1, k, k) like `kernel`, from (N, C, H, W)."""
        size = kernel.shape[-1]
        if self.dilation == 2 and not self.interleaved:
            padding = (size - 1, size - 1)
            return _backward(gradient, self.images, kernel, self.stride, padding, self.dilation, weight=True)
        if size == 3:
            return _backward(self._dense(gradient), self._dense_images, kernel, self.stride, (1, 1), 1, weight=True)
        return self._as_two_halves(self._pixels(gradient), kernel)

    def _as_two_halves(self, gradient: Tensor, kernel: Tensor) -> Tensor:
        """Columns 0 to 2 and columns 2 to 4 of a 5x5 kernel's gradient, each as the gradient of a 5x3 kernel.

        Columns 2 to 4 are what columns 0 to 2 would be if the gradient lay two pixels further right. So it is copied
        once into rows with as much room, zero, and each half reads it through a view with another offset.
        """
        *lead, height, width, channels = gradient.shape
        extra = 2 // self.stride
        row = width + extra
        buffer = gradient.new_empty((gradient.numel() // width * row) + extra * channels)
        buffer.narrow(0, 0, extra * channels).zero_()
        left, right = buffer[extra * channels :], buffer[: -extra * channels]
        filled = left.view(*lead, height, row, channels)
        filled.narrow(-2, 0, width).copy_(gradient)
        filled.narrow(-2, width, extra).zero_()
        like = kernel[..., :3]
        halves = [
            _backward(
                half.view(-1, height, row, channels).permute(0, 3, 1, 2),
                self._padded_images,
                like,
                self.stride,
                (2 - self._extra_rows, 0),
                1,
                weight=True,
            )
            for half in (left, right)
        ]
        return torch.cat([halves[0], halves[1][..., 1:]], dim=3)

    def _pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, C), or interleaved (2, 2, N, H/2, W/2, C): pixels of equal parity, which dilation 2 never mixes."""
        pixels = images.permute(0, 2, 3, 1)
        if not self.interleaved:
            return pixels
        return pixels.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(2, 4, 0, 1, 3, 5)

    def _dense(self, images: Tensor) -> Tensor:
        """The pixels as channels-last maps."""
        return self._pixels(images).flatten(0, -4).permute(0, 3, 1, 2)

    @cached_property
    def _dense_images(self) -> Tensor:
        return self._dense(self.images)

    @property
    def _extra_rows(self) -> int:
        """Rows of zeros that the images are padded by above and below.

        For maps of fewer rows than the kernel torch has other code, five to ten times as slow.
        """
        return 2 if self._pixels(self.images).shape[-3] < 5 else 0

    @cached_property
    def _padded_images(self) -> Tensor:
        """With two zero columns on both sides, and `_extra_rows`."""
        pixels = self._pixels(self.images)
        *lead, height, width, channels = pixels.shape
        above = self._extra_rows
        padded = pixels.new_empty(*lead, height + 2 * above, width + 4, channels)
        padded.narrow(-3, 0, above).zero_()
        padded.narrow(-3, height + above, above).zero_()
        filled = padded.narrow(-3, above, height)
        filled.narrow(-2, 0, 2).zero_()
        filled.narrow(-2, width + 2, 2).zero_()
        filled.narrow(-2, 2, width).copy_(pixels)
        return padded.flatten(0, -4).permute(0, 3, 1, 2)


def _backward(
    gradient: Tensor,
    images: Tensor,
    kernel: Tensor,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    *,
    weight: bool,
) -> Tensor:
    gradients = torch.ops.aten.convolution_backward(
        gradient,
        images,
        kernel,
        None,
        (stride, stride),
        padding,
        (dilation, dilation),
        False,
        (0, 0),
        kernel.shape[0],
        (not weight, weight, False),
    )
    return gradients[1 if weight else 0]
