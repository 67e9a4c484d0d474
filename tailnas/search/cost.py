"""What a search cost, counted and not timed: the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch

from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.pretrained import supernet
from tailnas.space.settings import Space


@dataclass(frozen=True)
class Cost:
    """Passes of images through networks, and what they add up to.

    trained_images: passes forward and back. scored_images: passes forward alone, to score candidates or to estimate
    their BatchNorm statistics. weights_trained: weights that gradients moved, alphas excluded. total_multiply_adds: of
    the forward part of all passes. details: what is particular to a method. The accuracy that a search records after
    each epoch is no part of it.
    """

    optimiser_steps: int = 0
    trained_images: int = 0
    scored_images: int = 0
    weights_trained: int = 0
    total_multiply_adds: int = 0
    details: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, int]:
        """With `images`, all passes, and `multiply_adds`, the mean of one image's forward pass."""
        images = self.trained_images + self.scored_images
        return {
            "optimiser_steps": self.optimiser_steps,
            "images": images,
            "trained_images": self.trained_images,
            "scored_images": self.scored_images,
            "weights_trained": self.weights_trained,
            "multiply_adds": round(self.total_multiply_adds / images) if images else 0,
            "total_multiply_adds": self.total_multiply_adds,
            **self.details,
        }


@cache
def mixture_multiply_adds(space: Space, num_classes: int, in_channels: int, image_size: int, partial: int = 1) -> int:
    """Multiply-adds of one image through the super-network of L + 1 cells: one branch's share of a two-branch one."""
    with torch.device("meta"):
        network = supernet(space, num_classes, in_channels, partial=partial)
    return multiply_adds(network, in_channels, image_size)
