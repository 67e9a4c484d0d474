"""Photographs as people have them: colour, grey, transparent, CMYK, of 16 bits, GIF, JPEG, nested, of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
LARGEST, SMALLEST = 50, 9


def sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def see_through(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(200)
    return image


FORMS: tuple[tuple[str, Callable[[Image.Image], Image.Image]], ...] = (
    ("{}.png", lambda image: image),
    ("grey {}.png", lambda image: image.convert("L")),
    ("{}.tiff", lambda image: image.convert("CMYK")),
    ("{}-16.png", sixteen_bits),
    ("{}.GIF", lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE)),
    ("2026 März/Nr. {}.jpg", lambda image: image.resize((48, 40))),
    ("2026 März/a/b/{}.webp", see_through),
)
"""Name below the class and what is done to a photograph, in turn."""

MODES = {"RGB", "L", "CMYK", "I;16", "P", "RGBA"}


def class_sizes() -> list[int]:
    return [round(LARGEST * (SMALLEST / LARGEST) ** (c / (CLASSES - 1))) for c in range(CLASSES)]


def drawn(name: str) -> Iterator[Image.Image]:
    """Smooth colours, alike within class `name` and all different."""
    common = np.random.default_rng(list(name.encode())).integers(0, 256, (5, 5, 3))
    for seed in range(LARGEST):
        own = np.random.default_rng([seed, *name.encode()]).integers(0, 256, (5, 5, 3))
        coarse = (0.6 * common + 0.4 * own).astype(np.uint8)
        yield Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC)


def photographs(root: Path, unpacked: Path | None = None) -> int:
    """Write them to `root`, one folder for each class; returns how many.

    unpacked: a folder that holds train/<class>/*.png, from which they are taken; drawn without one.
    """
    names = (
        sorted(path.name for path in (unpacked / "train").iterdir()) if unpacked else [f"k{c}" for c in range(CLASSES)]
    )
    for name, size in zip(names, class_sizes(), strict=True):
        files = sorted((unpacked / "train" / name).glob("*.png"))[:size] if unpacked else []
        images = [Image.open(file) for file in files] or list(drawn(name))[:size]
        assert len(images) == size, f"{name} has {len(images)} images; allowed: {size} or more"
        for index, image in enumerate(images):
            form, change = FORMS[index % len(FORMS)]
            path = root / f"Größe {name}" / form.format(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            change(image).save(path)
    return sum(class_sizes())
