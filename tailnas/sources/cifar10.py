"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour photographs of 32x32 pixels in 10 classes."""

from __future__ import annotations

from tailnas.data.dataset import Dataset
from tailnas.fetch import cifar


class Settings(cifar.Archive):
    """CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels in 10 classes."""


def class_names(settings: Settings) -> None:
    """Not known before the archive is read."""


def train_counts(settings: Settings) -> list[int] | None:
    """5000 of each class; None where `sha256` names another archive."""
    return cifar.published_counts(settings, num_classes=10, per_class=5000)


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, kind, root, url, sha256, as in `tailnas.fetch.cifar.load`. The test part is the published one."""
    from torchvision.datasets import CIFAR10

    return cifar.load(CIFAR10, "labels", settings, "cifar10", image_size, channels)
