"""scikit-learn's 1,797 hand-written digits (the test part of UCI's optical recognition set), 8x8, 17 grey levels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tailnas.data.dataset import Dataset
from tailnas.data.held_out import balanced_test_part
from tailnas.data.resize import resized
from tailnas.errors import UserError

CLASSES = tuple("0123456789")
IMAGES_PER_CLASS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


def class_names(settings: Any) -> tuple[str, ...]:
    """The ten digits."""
    return CLASSES


def train_counts(settings: Any) -> list[int]:
    """Training images of each digit once `test_per_class` are taken away."""
    _check(settings)
    return [count - settings.test_per_class for count in IMAGES_PER_CLASS]


def load(settings: Any, image_size: int, channels: int) -> Dataset:
    """settings: name, test_per_class, seed. The test part is a seeded choice, `test_per_class` images of each digit."""
    from sklearn.datasets import load_digits

    _check(settings)
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    images = resized(grey, image_size, channels)
    labels = digits.target.astype(np.int64)
    test = balanced_test_part(labels, len(CLASSES), settings.test_per_class, settings.seed, "digits")
    return Dataset(images[~test], labels[~test], images[test], labels[test], CLASSES, settings.name, "digits")


def _check(settings: Any) -> None:
    most = min(IMAGES_PER_CLASS) - 1
    if not 1 <= settings.test_per_class <= most:
        raise UserError(
            f"data: {settings.name}: test_per_class: {settings.test_per_class} is not allowed; allowed: 1 to {most}, "
            f"as digit 8 has {min(IMAGES_PER_CLASS)} images"
        )
