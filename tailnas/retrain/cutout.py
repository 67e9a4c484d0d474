"""Cutout: a square of each image is blanked (DeVries & Taylor 2017, 1708.04552)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cutout:
    """A square of `side` pixels around a random pixel of each image; what reaches over the border is cut off."""

    side: int

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"cutout: {self.side}; allowed: from 1")

    def draw(self, steps: int, batch_size: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """int64 (S, 2, B) on the CPU: row and column of each square's centre."""
        centres = [torch.randint(length, (steps, batch_size), generator=generator) for length in size]
        return torch.stack(centres, dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Normalised images (B, C, H, W), each with zeros (the mean colour) in its square; draws: (2, B)."""
        inside = [
            _between(length, start, start + self.side)
            for length, start in zip(images.shape[2:], draws - self.side // 2, strict=True)
        ]
        return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0)


def _between(length: int, start: Tensor, end: Tensor) -> Tensor:
    """bool (B, length): the positions from start (B,) to before end (B,)."""
    positions = torch.arange(length, device=start.device)
    return (positions >= start[:, None]) & (positions < end[:, None])
