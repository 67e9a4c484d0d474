"""Letters and digits drawn from the fonts that matplotlib ships: images without a download, as many as asked for."""

from __future__ import annotations

import string
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailnas.data.dataset import Dataset
from tailnas.fetch.glyph_drawing import Distortion, draw
from tailnas.fetch.settings import DataSet
from tailnas.foundation.seeding import numpy_generator
from tailnas.foundation.settings import Seed

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


class Settings(DataSet):
    """Letters and digits drawn from the fonts that matplotlib ships, distorted, coloured and with noise."""

    alphabet: Literal["letters", "digits", "all"] = Field(description="26 capital letters, 10 digits, or both.")
    train_per_class: Annotated[int, Field(ge=4, le=100_000)] = Field(description="Training images of each class.")
    test_per_class: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Test images of each class.")
    seed: Seed = Field(description="Draws fonts, distortion, colours and noise.")


def shared_images(settings: Settings, other: Settings) -> None:
    """None: the name enters the draws."""


def class_names(settings: Settings) -> tuple[str, ...]:
    """The characters of the alphabet."""
    return ALPHABETS[settings.alphabet]


def train_counts(settings: Settings) -> list[int]:
    """`train_per_class` for each character of the alphabet."""
    return [settings.train_per_class] * len(class_names(settings))


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, alphabet, train_per_class, test_per_class, seed.

    Images stand class by class. The faces of the test part are in no training image. The name enters the draws, so
    that two glyph data sets share no image; asking for more images adds to those there are.
    """
    characters = class_names(settings)
    train = _part(settings, "train", characters, TRAIN_FACES, settings.train_per_class, image_size, channels)
    test = _part(settings, "test", characters, TEST_FACES, settings.test_per_class, image_size, channels)
    return Dataset(*train, *test, characters, settings.name, "glyphs")


def _part(
    settings: Settings,
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
