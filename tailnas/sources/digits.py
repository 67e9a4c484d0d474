"""scikit-learn's 1,797 hand-written digits (the test part of UCI's optical recognition set), 8x8, 17 grey levels."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tailnas.data.dataset import Dataset
from tailnas.fetch.held_out import held_out_part
from tailnas.fetch.resize import resized
from tailnas.fetch.settings import DataSet
from tailnas.foundation.settings import Seed

CLASSES = tuple("0123456789")
IMAGES_PER_CLASS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


class Settings(DataSet):
    """scikit-learn's 1,797 handwritten digits of 8x8 grey pixels, enlarged."""

    test_per_class: Annotated[int, Field(ge=1, le=min(IMAGES_PER_CLASS) - 1)] = Field(
        description="Images of each class in the test part; digit 8 has 174 in all."
    )
    seed: Seed = Field(description="Chooses the test part, the same for every study seed.")


def class_names(settings: Settings) -> tuple[str, ...]:
    """The ten digits."""
    return CLASSES


def train_counts(settings: Settings) -> list[int]:
    """Training images of each digit once `test_per_class` are taken away."""
    return [count - settings.test_per_class for count in IMAGES_PER_CLASS]


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, test_per_class, seed. The test part is a seeded choice, `test_per_class` images of each digit."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    images = resized(grey, image_size, channels)
    labels = digits.target.astype(np.int64)
    tested = held_out_part(labels, [settings.test_per_class] * len(CLASSES), settings.seed, "digits")
    return Dataset(images[~tested], labels[~tested], images[tested], labels[tested], CLASSES, settings.name, "digits")
