"""Images that live on the device as uint8, where they fit, and the numbers that normalise them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailnas.batches.stored_images import StoredImages, room_for_images
from tailnas.data.dataset import Part

COUNTED_AT_ONCE = 4096
"""Images whose pixels are counted in one go."""


@dataclass(frozen=True)
class DeviceImages:
    """Images uint8 (N, C, H, W) and labels int64 (N,) on one device; images that do not fit stay in their file."""

    images: Tensor | StoredImages
    labels: Tensor

    @classmethod
    def from_part(
        cls,
        part: Part,
        device: torch.device | str,
        indices: NDArray[np.int64] | None = None,
        room: int | None = None,
    ) -> DeviceImages:
        """All images of `part`, or the rows `indices` (M,) of it, moved to `device`.

        room: bytes that they may take there, by default a share of what is free; where they take more, they stay where
        they are and batches fetch them. Batches are the same.
        """
        rows = np.arange(len(part.labels)) if indices is None else indices
        labels = torch.from_numpy(part.labels[rows]).to(device)
        if len(rows) * part.images[0].nbytes > (room_for_images(labels.device) if room is None else room):
            return cls(StoredImages(part.images, rows), labels)
        return cls(torch.from_numpy(np.asarray(part.images[rows])).to(device), labels)

    @property
    def on_device(self) -> bool:
        """Whether the images themselves are."""
        return isinstance(self.images, Tensor)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, of pixel values divided by 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor | StoredImages) -> Normalisation:
        """From uint8 images (N, C, H, W), by histograms, so that neither the images' order nor the device matters.

        A channel of one value gets a standard deviation of one grey level, 1/255.
        """
        counts = np.zeros((images.shape[1], 256), np.int64)
        for part in images.split(COUNTED_AT_ONCE):
            for channel, pixels in enumerate(part.cpu().numpy().swapaxes(0, 1)):
                counts[channel] += np.bincount(pixels.ravel(), minlength=256)
        means, deviations = [], []
        levels = np.arange(256, dtype=np.float64)
        for levelled in counts:
            share = levelled / levelled.sum()
            mean = float((share * levels).sum())
            variance = float((share * (levels - mean) ** 2).sum())
            means.append(mean / 255)
            deviations.append(max(variance**0.5, 1.0) / 255)
        return cls(tuple(means), tuple(deviations))

    def scale_and_shift(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """float32 (1, C, 1, 1) each: (x / 255 - mean) / std = x * scale + shift for pixel values x in 0..255."""
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (1 / (255 * std)).to(device, torch.float32), (-mean / std).to(device, torch.float32)
