"""Alphas as a picture with words, for TensorBoard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tailnas.genotype.primitives import NODES, PRIMITIVES

SIDE, LEFT, TOP = 30, 62, 92
EDGES = [
    f"{source - 2 if source < 2 else source - 1} > {node + 1}" for node in range(NODES) for source in range(node + 2)
]
INK = (31, 41, 51)


def alphas_picture(alphas: Tensor) -> NDArray[np.uint8]:
    """Softmax weights of alphas (14, 8), an edge a row and a primitive a column, each with its percentage: (H, W, 3).

    White is the uniform weight that a search starts from, red more, blue less. Edges are named by the nodes that they
    join, 1 to 4; -2 and -1 are the cell's inputs.
    """
    weights = alphas.double().softmax(-1).cpu().numpy()
    picture = Image.new("RGB", (LEFT + SIDE * len(PRIMITIVES) + 8, TOP + SIDE * len(EDGES) + 4), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default()
    for row, (name, own) in enumerate(zip(EDGES, weights, strict=True)):
        y = TOP + SIDE * row
        draw.text((LEFT - 8, y + SIDE // 2), name, INK, font, anchor="rm")
        for column, weight in enumerate(own):
            x = LEFT + SIDE * column
            draw.rectangle((x, y, x + SIDE - 2, y + SIDE - 2), _colour(float(weight)))
            draw.text((x + SIDE // 2 - 1, y + SIDE // 2), f"{100 * weight:.0f}", INK, font, anchor="mm")
    for column, primitive in enumerate(PRIMITIVES):
        words = Image.new("RGB", (TOP - 6, 14), "white")
        ImageDraw.Draw(words).text((0, 7), primitive, INK, font, anchor="lm")
        picture.paste(words.rotate(90, expand=True), (LEFT + SIDE * column + 7, 2))
    return np.asarray(picture)


def _colour(weight: float) -> tuple[int, int, int]:
    """From light blue at 0 over white at the uniform weight to light red at three times as much and above."""
    part = weight * len(PRIMITIVES) - 1
    pale = 255 - round(135 * min(abs(part) / (2 if part > 0 else 1), 1))
    return (255, pale, pale) if part > 0 else (pale, pale, 255)
