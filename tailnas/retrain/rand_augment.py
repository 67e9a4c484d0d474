"""RandAugment, torchvision's operations with draws of our own (Cubuk et al. 2020, 1909.13719).

torchvision's class draws from the global generator and gives all images of a batch the same operation. Here every image
has its own, drawn beforehand from an explicit generator; images with the same operation are then computed together.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import RandAugment as _TorchvisionRandAugment
from torchvision.transforms import autoaugment


class RandAugment:
    """`operations` of torchvision's, one after the other, on each image, with a strength of `magnitude` (0 to 30).

    A draw is 2 * operation + sign, where operation counts in torchvision's order and a sign of 1 turns around those
    that have a direction.
    """

    def __init__(self, operations: int, magnitude: int) -> None:
        self._torchvision = _TorchvisionRandAugment(operations, magnitude)
        self.operations = operations

    def draw(self, steps: int, batch_size: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """int64 (S, operations, B), on the CPU."""
        known = len(self._effects(size))
        return torch.randint(2 * known, (steps, self.operations, batch_size), generator=generator)

    def __call__(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """uint8 (B, C, H, W), each image changed by its column of draws (operations, B), which are on the CPU."""
        effects = self._effects((pixels.shape[2], pixels.shape[3]))
        for drawn in draws:
            directed = torch.tensor([signed for _, _, signed in effects])[drawn // 2]
            codes = torch.where(directed, drawn, drawn - drawn % 2)
            present, sizes = torch.unique(codes, return_counts=True)
            order = codes.argsort(stable=True)
            groups = pixels[order.to(pixels.device)].split(sizes.tolist())
            changed = [
                self._apply(group, effects[code // 2], code % 2)
                for group, code in zip(groups, present.tolist(), strict=True)
            ]
            pixels = torch.cat(changed)[order.argsort().to(pixels.device)]
        return pixels

    def _effects(self, size: tuple[int, int]) -> list[tuple[str, float, bool]]:
        """Name, strength and whether it has a direction, of each operation in torchvision's order."""
        space = self._torchvision._augmentation_space(self._torchvision.num_magnitude_bins, size)
        return [
            (name, float(strengths[self._torchvision.magnitude]) if strengths.ndim else 0.0, signed)
            for name, (strengths, signed) in space.items()
        ]

    def _apply(self, pixels: Tensor, effect: tuple[str, float, bool], sign: int) -> Tensor:
        name, strength, _ = effect
        changed: Tensor = autoaugment._apply_op(
            pixels, name, -strength if sign else strength, self._torchvision.interpolation, self._torchvision.fill
        )
        return changed
