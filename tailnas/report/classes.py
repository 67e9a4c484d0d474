"""The data section: an example image and a bar per class."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailnas.data.dataset import Part
from tailnas.report.figures import label, size_order
from tailnas.report.runs import Run

SHOWN = 20
"""Classes shown at most; of more, an even selection from the largest to the smallest."""

BAR_HEIGHT = 90


@dataclass(frozen=True)
class ClassView:
    """One class: its name, training images, shot group, bar height in pixels, and a picture as a data address."""

    name: str
    count: int
    group: str
    height: int
    picture: str


def class_views(run: Run, part: Part) -> list[ClassView]:
    """Classes of a run's split from the most to the least frequent, with each class's first training image."""
    order = size_order(run.counts)
    if len(order) > SHOWN:
        order = order[np.linspace(0, len(order) - 1, SHOWN).round().astype(int)]
    groups = run.groups.by_class
    largest = max(run.counts)
    return [
        ClassView(
            label(run.classes[index], 12),
            run.counts[index],
            groups[int(index)],
            max(2, round(BAR_HEIGHT * run.counts[index] / largest)),
            png_address(part.images[int(np.argmax(part.labels == index))]),
        )
        for index in order
    ]


def png_address(image: NDArray[np.uint8]) -> str:
    """A uint8 (C, H, W) image with 1 or 3 channels as a PNG `data:` address."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
