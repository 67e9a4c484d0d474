"""Characters drawn from outline fonts, each image with its own distortion, stroke, colours and background.

Random numbers become pixels by IEEE arithmetic alone (no transcendental functions, no BLAS, no Gaussian draws), so
that with one Pillow version the images are the same on every machine, as far as its compiler allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageFont, ImageOps

from tailnas.foundation.errors import UserError

TINT = 0.35
"""Distance of a colour's channels from its luminance, at most, of 1."""
_DRAWS = 40
"""Random numbers per image, some of them spare."""


@dataclass(frozen=True)
class Distortion:
    """How far images stray from the printed character; each quantity is drawn uniformly for each image."""

    cap_height: tuple[float, float] = (0.55, 0.8)
    """Height of a capital, share of the image's side."""
    aspect: float = 0.2
    """Width is stretched by up to this share, either way."""
    rotation: float = 0.15
    """Tangent of half the largest angle, either way (0.15: 17 degrees)."""
    shear: float = 0.25
    """Largest horizontal shift per unit of height, either way."""
    shift: float = 0.12
    """Largest move of the centre, share of the image's side, either way."""
    stroke: int = 3
    """Pixels by which strokes are thickened, at most, where a capital is 64 pixels high."""
    contrast: float = 0.3
    """Least difference of luminance between character and background, of 1."""
    pattern: float = 0.25
    """Amplitude of the smooth background pattern, at most."""
    noise: float = 0.2
    """Amplitude of the pixel noise, at most."""


def face_path(face: str) -> Path:
    """The file of a font face that matplotlib ships. Raises UserError where it is missing."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise UserError(
            "matplotlib: not installed, but its fonts are needed to draw glyphs; allowed: requirements.lock"
        )
    path = Path(spec.origin).parent / "mpl-data/fonts/ttf" / f"{face}.ttf"
    if not path.is_file():
        raise UserError(f"{path}: no such font; allowed: the matplotlib of requirements.lock, which ships it")
    return path


def draw(
    character: str,
    faces: tuple[str, ...],
    images: int,
    image_size: int,
    channels: int,
    generators: tuple[np.random.Generator, np.random.Generator],
    distortion: Distortion,
) -> NDArray[np.uint8]:
    """uint8 (images, channels, image_size, image_size) of one character.

    generators: one for what is drawn per image, one for pixel noise. Both are used image by image, so more images
    begin with the same ones.
    """
    shapes, pixels = generators
    oversampling = max(1, -(-96 // image_size))
    canvas = oversampling * image_size
    cap_pixels = min(128, round(0.64 * canvas))
    draws = shapes.random((images, _DRAWS))
    templates: dict[tuple[str, int], Image.Image] = {}
    masks = np.empty((images, image_size, image_size))
    for mask, row in zip(masks, draws, strict=True):
        face = faces[int(row[0] * len(faces))]
        stroke = int(row[1] * (distortion.stroke + 1))
        template = templates.get((face, stroke))
        if template is None:
            template = templates[face, stroke] = _template(character, face, cap_pixels, stroke)
        coefficients = _inverse_affine(row[2:9], template.size, canvas, cap_pixels, distortion)
        drawn = template.transform(
            (canvas, canvas), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=0
        )
        mask[:] = np.asarray(drawn.reduce(oversampling) if oversampling > 1 else drawn)
    return _composed(masks / 255, draws[:, 9:], pixels, channels, distortion)


def _template(character: str, face: str, cap_pixels: int, stroke: int) -> Image.Image:
    """White on black, centred, capitals `cap_pixels` high, strokes thickened by `stroke` 64ths of that."""
    path = str(face_path(face))
    layout = ImageFont.Layout.BASIC
    _, top, _, bottom = ImageFont.truetype(path, 1000, layout_engine=layout).getbbox("H")
    font = ImageFont.truetype(path, 1000 * cap_pixels / (bottom - top), layout_engine=layout)
    mask = font.getmask(character, mode="L")
    glyph = Image.frombytes("L", mask.size, bytes(mask))
    radius = stroke * cap_pixels // 64
    image = ImageOps.expand(glyph, border=radius + 2)
    return image.filter(ImageFilter.MaxFilter(2 * radius + 1)) if radius else image


def _inverse_affine(
    draws: NDArray[np.float64], template: tuple[int, int], canvas: int, cap_pixels: int, distortion: Distortion
) -> tuple[float, float, float, float, float, float]:
    """Coefficients that take pixels of the canvas to those of the template."""
    low, high = distortion.cap_height
    scale = (low + (high - low) * draws[0]) * canvas / cap_pixels
    aspect, shear, right, down = (2 * draws[1:5] - 1) * [
        distortion.aspect,
        distortion.shear,
        distortion.shift * canvas,
        distortion.shift * canvas,
    ]
    half = (2 * draws[5] - 1) * distortion.rotation
    cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    across, along = scale * (1 + aspect), scale
    # canvas = R(angle) @ [[across, shear * along], [0, along]] @ template, and back
    determinant = across * along
    a = (along * cosine + shear * along * sine) / determinant
    b = (along * sine - shear * along * cosine) / determinant
    d, e = -across * sine / determinant, across * cosine / determinant
    x, y = canvas / 2 + right, canvas / 2 + down
    return a, b, template[0] / 2 - a * x - b * y, d, e, template[1] / 2 - d * x - e * y


def _composed(
    masks: NDArray[np.float64],
    draws: NDArray[np.float64],
    pixels: np.random.Generator,
    channels: int,
    distortion: Distortion,
) -> NDArray[np.uint8]:
    """Characters (N, S, S), 1 where their ink is, in their colours over their backgrounds: uint8 (N, C, S, S)."""
    images, size, _ = masks.shape
    ground = draws[:, 0]
    # ink lies uniformly in what is left of [0, 1] outside `contrast` around the background
    darker, brighter = np.maximum(ground - distortion.contrast, 0), np.minimum(ground + distortion.contrast, 1)
    place = draws[:, 1] * (darker + 1 - brighter)
    ink = np.where(place < darker, place, brighter + place - darker)
    pattern = (2 * _smooth(draws[:, 4:20].reshape(images, 4, 4), size) - 1) * _per_image(
        distortion.pattern * draws[:, 2]
    )
    grain = (pixels.random((images, size, size, 2)).sum(-1) - 1) * _per_image(distortion.noise * draws[:, 3])
    ground_colour, ink_colour = _coloured(ground, draws[:, 20:23], channels), _coloured(ink, draws[:, 23:26], channels)
    out = np.empty((images, channels, size, size), np.uint8)
    for channel in range(channels):
        under, over = _per_image(ground_colour[:, channel]) + pattern, _per_image(ink_colour[:, channel])
        values = under + (over - under) * masks + grain
        out[:, channel] = np.rint(255 * np.clip(values, 0, 1))
    return out


def _per_image(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[:, None, None]


def _coloured(luminance: NDArray[np.float64], draws: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """(N, channels): random colours of the given luminance, or the luminance itself where there is one channel."""
    if channels == 1:
        return luminance[:, None]
    tint = (2 * draws - 1) * TINT
    tint -= (tint[:, 0] * 0.299 + tint[:, 1] * 0.587 + tint[:, 2] * 0.114)[:, None]
    return np.clip(luminance[:, None] + tint, 0, 1)


def _smooth(grid: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(N, 4, 4) to (N, size, size), bilinear, written as a sum of tents so that no BLAS rounds it differently."""
    position = np.arange(size) * (3 / max(1, size - 1))
    tents = [np.maximum(1 - np.abs(position - knot), 0) for knot in range(4)]
    out = np.zeros((len(grid), size, size))
    for row, down in enumerate(tents):
        for column, across in enumerate(tents):
            out += _per_image(grid[:, row, column]) * down[:, None] * across
    return out
