"""Batches made on the device that holds the images; no worker processes, no work in Python for a single image.

An epoch is planned first: all rows and augmentation draws, on the CPU from explicit generators, moved in one
transfer. What remains for a step is one gather and one normalisation, with fixed shapes and without waiting for the
device, so that a step can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tailnas.batches.augmentation import Augmentation, cropped, padded
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.batches.stored_images import StoredImages
from tailnas.imbalance.samplers import Sampler


@dataclass(frozen=True)
class EpochPlan:
    """What the batches of an epoch are made of: int64 (S, 1 or 4, B) on the device.

    Row 0 of a step holds the images' indices, the others the draws of `Augmentation`. `last` is a smaller step of its
    own, (1 or 4, b), where the last images of a pass are kept.
    """

    steps: Tensor
    last: Tensor | None = None

    def __len__(self) -> int:
        return len(self.steps) + (self.last is not None)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.steps
        if self.last is not None:
            yield self.last


class Batches:
    """Batches of `data` as the sampler chooses them, augmented and normalised.

    data: images uint8 (N, C, H, W) and labels (N,), on a device where they fit. sampler: rows of `data`. batch_size: at
    most; smaller data gives batches of all its images. generator: on the CPU, for the augmentation alone. keep_last:
    whether the images that fill no batch at the end of a pass, two at least, make a smaller one. With a padding for
    crops, a padded copy of images that fit is kept beside them on the device.
    """

    def __init__(
        self,
        data: DeviceImages,
        sampler: Sampler,
        batch_size: int,
        normalisation: Normalisation,
        augmentation: Augmentation | None,
        generator: torch.Generator,
        *,
        keep_last: bool = False,
    ) -> None:
        if batch_size < 1 or len(data) < 1:
            raise ValueError(f"batch_size, images: {batch_size}, {len(data)}; allowed: from 1")
        self.data = data
        self.sampler = sampler
        self.batch_size = min(batch_size, sampler.images_per_epoch)
        self.last_size = last_batch(sampler.images_per_epoch, self.batch_size) if keep_last else 0
        """Images of the smaller batch at the end of a pass; 0 has none."""
        self.augmentation = augmentation
        self.generator = generator
        self._scale, self._shift = normalisation.scale_and_shift(data.device)
        self._size = (data.images.shape[2], data.images.shape[3])
        self._pixels = data.images
        if augmentation is not None and isinstance(data.images, Tensor):
            self._pixels = padded(data.images, augmentation.crop_padding)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the data."""
        return self.sampler.images_per_epoch // self.batch_size + (self.last_size > 0)

    def plan(self, steps: int | None = None) -> EpochPlan:
        """Draw the next `steps` batches, all of one size (None: one pass)."""
        if steps is None and self.last_size:
            rows, last = whole_pass(self.sampler, self.batch_size, self.last_size)
            return EpochPlan(self._with_draws(rows), self._with_draws(last)[0])
        rows = self.sampler.epoch(self.steps_per_epoch if steps is None else steps, self.batch_size)
        return EpochPlan(self._with_draws(rows))

    def _with_draws(self, rows: Tensor) -> Tensor:
        """int64 (S, 1 or 4, B) on the device, of rows (S, B)."""
        parts = [rows[:, None]]
        if self.augmentation is not None:
            draws = self.augmentation.draw(rows.numel(), self.generator)
            parts.append(draws.view(len(draws), *rows.shape).transpose(0, 1))
        plan = torch.cat(parts, dim=1)
        if self.data.device.type == "cuda":
            return plan.pin_memory().to(self.data.device, non_blocking=True)
        return plan.to(self.data.device)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self._size

    def pixels(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """One step of a plan, (1 or 4, B): uint8 (B, C, H, W), cropped and flipped, and labels int64 (B,)."""
        indices = step[0]
        if isinstance(self._pixels, StoredImages):
            pixels = self._fetched(indices, step[1:])
        elif self.augmentation is None:
            pixels = self._pixels.index_select(0, indices)
        else:
            pixels = cropped(self._pixels, indices, step[1:], self._size).permute(0, 3, 1, 2)
        return pixels, self.data.labels.index_select(0, indices)

    def _fetched(self, indices: Tensor, draws: Tensor) -> Tensor:
        """The same pixels of images that are not on the device."""
        images = self._pixels.index_select(0, indices).to(self.data.device)
        if self.augmentation is None:
            return images
        rows = torch.arange(len(indices), device=images.device)
        framed = padded(images, self.augmentation.crop_padding)
        return cropped(framed, rows, draws, self._size).permute(0, 3, 1, 2)

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) to float32."""
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).mul_(self._scale).add_(self._shift)

    def make(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """The batch of one step of a plan, (1 or 4, B): images float32 (B, C, H, W), labels int64 (B,).

        A function of `step` and the data alone, of fixed shapes.
        """
        pixels, labels = self.pixels(step)
        return self.normalised(pixels), labels

    def epoch(self, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The next `steps` batches (None: one pass), drawn before the first is given out."""
        plan = self.plan(steps)
        return (self.make(step) for step in plan)

    def state_dict(self) -> dict[str, Tensor]:
        """States of the sampler and of the augmentation's generator, as plain CPU tensors."""
        sampler = {f"sampler.{key}": value for key, value in self.sampler.state_dict().items()}
        return {"generator": self.generator.get_state(), **sampler}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state` was taken: the next plan is the one that would have come next."""
        self.generator.set_state(state["generator"])
        prefix = "sampler."
        self.sampler.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def last_batch(images: int, batch_size: int) -> int:
    """Images that fill no batch at the end of a pass; 0 for a single one, of which there is no batch statistic."""
    left = images % batch_size
    return left if left > 1 else 0


def whole_pass(sampler: Sampler, batch_size: int, last_size: int) -> tuple[Tensor, Tensor]:
    """All draws of a pass: whole batches (S, batch_size) and the smaller last one (1, last_size)."""
    (rows,) = sampler.epoch(1, sampler.images_per_epoch)
    return rows[:-last_size].view(-1, batch_size), rows[None, -last_size:]


def sequential_batches(
    data: DeviceImages, batch_size: int, normalisation: Normalisation, *, pairs: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, normalised and not augmented; the last batch may be smaller.

    pairs: batches are a little larger where one image would be left over alone, for networks that normalise by the
    batch.
    """
    scale, shift = normalisation.scale_and_shift(data.device)
    while pairs and len(data) > batch_size and len(data) % batch_size == 1:
        batch_size += 1
    for images, labels in zip(data.images.split(batch_size), data.labels.split(batch_size), strict=True):
        yield images.to(data.device).to(torch.float32).mul_(scale).add_(shift), labels
