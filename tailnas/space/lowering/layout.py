"""Channels-last maps and their view as matrices: (N, C, H, W) in memory order N, H, W, C is (N * H * W, C)."""

from torch import Tensor


def rows(images: Tensor) -> Tensor:
    """A view where `images` is channels-last, else a copy."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def maps(matrix: Tensor, like: Tensor) -> Tensor:
    """The channels-last view of rows with batch, height and width of `like`."""
    batch, _, height, width = like.shape
    return matrix.view(batch, height, width, matrix.shape[1]).permute(0, 3, 1, 2)
