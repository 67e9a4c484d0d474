"""Mixtures of two images of a batch: whole ones (mixup) or one with a box of the other (CutMix).

Each image has a share, a partner and a box of its own. Draws are float32 (S, D, B): row 0 is the partner's position in
the batch, row 1 the share of the image itself, CutMix adds the box's top, bottom, left and right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor


class ImageMixing(ABC):
    """Shares are drawn from Beta(alpha, alpha)."""

    def __init__(self, alpha: float) -> None:
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha: {alpha}; allowed: a finite number above 0")
        self.alpha = alpha

    def draw(self, steps: int, batch_size: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """(S, D, B) on the CPU. Partners are a permutation of each batch, so that every image is used twice."""
        partners = torch.rand(steps, batch_size, generator=generator).argsort(dim=1)
        shares = beta_shares(self.alpha, (steps, batch_size), generator)
        return torch.stack([partners.float(), *self._drawn(shares, size, generator)], dim=1)

    def partners(self, draws: Tensor) -> Tensor:
        """int64 (B,): each image's partner, from the draws (D, B) of a step."""
        return draws[0].long()

    def shares(self, draws: Tensor) -> Tensor:
        """(B,): the share of each image itself."""
        return draws[1]

    @abstractmethod
    def _drawn(self, shares: Tensor, size: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
        """Rows of `draw` after the partner, each (S, B)."""

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Mixtures of images (B, C, H, W) by the draws (D, B) of a step."""


class Mixup(ImageMixing):
    """Pixel by pixel the weighted mean of image and partner (Zhang et al. 2018, 1710.09412)."""

    def _drawn(self, shares: Tensor, size: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
        return [shares.float()]

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return blended(images, images[self.partners(draws)], self.shares(draws))


class CutMix(ImageMixing):
    """A box of the partner replaces that box of the image (Yun et al. 2019, 1905.04899).

    The box has sqrt(1 - share) of each side, around a random pixel, cut off at the border; the share is then what is
    left of the image.
    """

    def _drawn(self, shares: Tensor, size: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
        top, bottom, left, right = boxes(shares, size, generator)
        left_over = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
        return [part.float() for part in (left_over, top, bottom, left, right)]

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return pasted(images, images[self.partners(draws)], draws[2:])


def beta_shares(alpha: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws from Beta(alpha, alpha), float64 of `shape` on the CPU, as `generator` (CPU) has it."""
    # torch's beta draws take no generator
    beta = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    return torch.from_numpy(beta.beta(alpha, alpha, shape))


def boxes(shares: Tensor, size: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
    """Top, bottom, left and right, int64 each of the shape of `shares`: boxes of 1 - share of an image's area.

    They lie around a uniformly drawn pixel and are cut off at the border.
    """
    edges: list[Tensor] = []
    for length in size:
        half = ((1 - shares).sqrt() * length).long() // 2
        centre = torch.randint(length, shares.shape, generator=generator)
        edges += [(centre - half).clamp(min=0), (centre + half).clamp(max=length)]
    return edges


def blended(images: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    """shares (B,) of `images` and the rest of `others`, both (B, C, H, W)."""
    share = shares.view(-1, 1, 1, 1)
    return share * images + (1 - share) * others


def pasted(images: Tensor, others: Tensor, edges: Tensor) -> Tensor:
    """`images` with a box of `others`, both (B, C, H, W); edges (4, B): top, bottom, left, right."""
    top, bottom, left, right = edges[:, :, None]
    rows, columns = (torch.arange(length, device=images.device) for length in images.shape[2:])
    inside = ((rows >= top) & (rows < bottom))[:, None, :, None] & ((columns >= left) & (columns < right))[
        :, None, None, :
    ]
    return torch.where(inside, others, images)


IMAGE_MIXINGS: dict[str, type[ImageMixing]] = {"mixup": Mixup, "cutmix": CutMix}
