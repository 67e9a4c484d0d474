"""Random crop and flip, drawn for each image by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 3
"""Numbers drawn per image: the crop's row, the crop's column, whether to flip."""


@dataclass(frozen=True)
class Augmentation:
    """crop_padding: black pixels added on each side before a crop of the old size; flip: mirror half of the images."""

    crop_padding: int
    flip: bool

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding: {self.crop_padding}; allowed: from 0")

    def draw(self, images: int, generator: torch.Generator) -> Tensor:
        """int64 (DRAWS, images) on the CPU: row and column of each crop in the padded image, and 1 for a flip."""
        crops = torch.randint(2 * self.crop_padding + 1, (2, images), generator=generator)
        flips = torch.randint(2, (1, images), generator=generator) if self.flip else torch.zeros(1, images).long()
        return torch.cat([crops, flips])


def padded(images: Tensor, crop_padding: int) -> Tensor:
    """uint8 (N, C, H, W) to (N, H + 2p, W + 2p, C), black around: what `cropped` reads."""
    return torch.nn.functional.pad(images, [crop_padding] * 4).permute(0, 2, 3, 1).contiguous()


def cropped(images: Tensor, indices: Tensor, draws: Tensor, size: tuple[int, int]) -> Tensor:
    """The images `indices` (B,) of `padded` ones, each cut out and flipped by its column of `draws` (DRAWS, B).

    One gather of whole pixels, (B, H, W, C) uint8, on the images' device.
    """
    (_, padded_height, padded_width, channels), (height, width) = images.shape, size
    top, left, flip = draws
    columns = torch.arange(width, device=images.device).expand(len(indices), width)
    columns = torch.where(flip[:, None].bool(), width - 1 - columns, columns) + left[:, None]
    rows = torch.arange(height, device=images.device) + (indices * padded_height + top)[:, None]
    pixels = (rows * padded_width)[:, :, None] + columns[:, None, :]
    return images.view(-1, channels).index_select(0, pixels.flatten()).view(len(indices), height, width, channels)
