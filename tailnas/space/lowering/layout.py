"""Channels-last maps and their view as matrices: (N, C, H, W) in memory order N, H, W, C is (N * H * W, C)."""

import torch
from torch import Tensor


def rows(images: Tensor) -> Tensor:
    """A view where `images` is channels-last, else a copy."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def maps(matrix: Tensor, like: Tensor) -> Tensor:
    """The channels-last view of rows with batch, height and width of `like`."""
    batch, _, height, width = like.shape
    return matrix.view(batch, height, width, matrix.shape[1]).permute(0, 3, 1, 2)


def without_gaps(rectified: Tensor, stride: int) -> tuple[Tensor, int]:
    """Input and dilation of a convolution with dilation 2. At stride 2 it reads every other pixel only, and is the
    ordinary convolution of those.
    """
    if stride == 1:
        return rectified, 2
    return rectified[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), 1


def plus(total: Tensor | None, part: Tensor) -> Tensor:
    """The sum, in place where there is one already."""
    return part if total is None else total.add_(part)
