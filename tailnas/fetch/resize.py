"""Images brought to one size and number of channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def square(image: Image.Image, size: int) -> Image.Image:
    """Resize to size x size, whatever the aspect ratio, so that nothing is cut off; smoothed where it shrinks."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def resized(images: NDArray[np.uint8], size: int, channels: int) -> NDArray[np.uint8]:
    """(N, H, W, 1 or 3) to (N, channels, size, size), uint8; grey is repeated, colour becomes luminance (Rec. 601)."""
    given = images.shape[-1]
    out = np.empty((len(images), channels, size, size), np.uint8)
    for row, pixels in zip(out, images, strict=True):
        image = Image.fromarray(pixels[..., 0] if given == 1 else pixels)
        if given == 3 and channels == 1:
            image = image.convert("L")
        row[:] = as_channels(square(image, size), channels)
    return out


def as_channels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """A grey or RGB image as (channels, H, W), or (1, H, W) of a grey one, which broadcasts."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[None]
    if channels != 3:
        raise ValueError(f"channels: {channels}; allowed: 3 for a colour image")
    return pixels.transpose(2, 0, 1)
