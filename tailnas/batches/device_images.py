"""Images that live on the device as uint8, and the numbers that normalise them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailnas.data.dataset import Part


@dataclass(frozen=True)
class DeviceImages:
    """Images uint8 (N, C, H, W) and labels int64 (N,) on one device."""

    images: Tensor
    labels: Tensor

    @classmethod
    def from_part(
        cls, part: Part, device: torch.device | str, indices: NDArray[np.int64] | None = None
    ) -> DeviceImages:
        """All images of `part`, or the rows `indices` (M,) of it, moved to `device`."""
        images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
        if indices is not None:
            rows = torch.from_numpy(indices)
            images, labels = images[rows], labels[rows]
        return cls(images.to(device), labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.images.device


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, of pixel values divided by 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> Normalisation:
        """From uint8 images (N, C, H, W), by histograms, so that neither the images' order nor the device matters.

        A channel of one value gets a standard deviation of one grey level, 1/255.
        """
        pixels = images.cpu().numpy()
        means, deviations = [], []
        levels = np.arange(256, dtype=np.float64)
        for channel in range(pixels.shape[1]):
            share = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
            mean = float((share * levels).sum())
            variance = float((share * (levels - mean) ** 2).sum())
            means.append(mean / 255)
            deviations.append(max(variance**0.5, 1.0) / 255)
        return cls(tuple(means), tuple(deviations))

    def scale_and_shift(self, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """float32 (1, C, 1, 1) each: (x / 255 - mean) / std = x * scale + shift for pixel values x in 0..255."""
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (1 / (255 * std)).to(device, torch.float32), (-mean / std).to(device, torch.float32)
