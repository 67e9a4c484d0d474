"""Letters and digits drawn from the fonts that matplotlib ships: images without a download, as many as asked for."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailnas.data.dataset import Dataset
from tailnas.data.glyph_drawing import Distortion, draw
from tailnas.errors import UserError
from tailnas.seeding import numpy_generator

ALPHABETS = {
    "letters": tuple(string.ascii_uppercase),
    "digits": tuple(string.digits),
    "all": tuple(string.digits + string.ascii_uppercase),
}

# Faces that differ by slant alone stay on one side: the distortion slants as well.
TRAIN_FACES = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBolIta",
    "cmr10",
    "cmss10",
    "cmti10",
)
TEST_FACES = (
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmb10",
    "cmtt10",
)


def class_names(settings: Any) -> tuple[str, ...]:
    """The characters of the alphabet. Raises UserError for an unknown alphabet or an empty part."""
    if settings.alphabet not in ALPHABETS:
        raise UserError(
            f"data: {settings.name}: alphabet: {settings.alphabet!r} is not known; allowed: {', '.join(ALPHABETS)}"
        )
    for key in ("train_per_class", "test_per_class"):
        if getattr(settings, key) < 1:
            raise UserError(f"data: {settings.name}: {key}: {getattr(settings, key)} is not allowed; allowed: from 1")
    return ALPHABETS[settings.alphabet]


def train_counts(settings: Any) -> list[int]:
    """`train_per_class` for each character of the alphabet."""
    return [settings.train_per_class] * len(class_names(settings))


def load(settings: Any, image_size: int, channels: int) -> Dataset:
    """settings: name, alphabet, train_per_class, test_per_class, seed.

    Images stand class by class. The faces of the test part are in no training image. The name enters the draws, so
    that two glyph data sets share no image; asking for more images adds to those there are.
    """
    characters = class_names(settings)
    train = _part(settings, "train", characters, TRAIN_FACES, settings.train_per_class, image_size, channels)
    test = _part(settings, "test", characters, TEST_FACES, settings.test_per_class, image_size, channels)
    return Dataset(*train, *test, characters, settings.name, "glyphs")


def _part(
    settings: Any,
    part: str,
    characters: tuple[str, ...],
    faces: tuple[str, ...],
    per_class: int,
    image_size: int,
    channels: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = np.empty((len(characters) * per_class, channels, image_size, image_size), np.uint8)
    for c, character in enumerate(characters):
        purpose = ("glyphs", settings.name, part, character)
        shapes = numpy_generator(settings.seed, *purpose, "shapes")
        pixels = numpy_generator(settings.seed, *purpose, "pixels")
        images[c * per_class : (c + 1) * per_class] = draw(
            character, faces, per_class, image_size, channels, (shapes, pixels), Distortion()
        )
    return images, np.repeat(np.arange(len(characters), dtype=np.int64), per_class)
