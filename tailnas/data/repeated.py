"""Images that stand more than once, found by a digest of their pixels as the networks see them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from tailnas.data.npy import read_npy
from tailnas.foundation.settings import Section

DIGESTS_FILE = "digests.npy"
DIGEST_BYTES = 16


class Repeated(Section):
    """How many different images of a data set stand more than once."""

    images: NonNegativeInt
    """In all."""
    across_parts: NonNegativeInt
    """Of those, in the training and in the test part."""
    across_classes: NonNegativeInt
    """Of those, under two or more classes."""

    def __str__(self) -> str:
        if not self.images:
            return "no image stands there twice"
        return (
            f"{self.images} image(s) stand there more than once, {self.across_parts} of them in both training and test "
            f"part, {self.across_classes} under two classes"
        )


def image_digests(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (N, 16): BLAKE2b of the pixels of each of N images of one shape."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=DIGEST_BYTES).digest() for image in images]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(images), DIGEST_BYTES)


def copies(digests: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """The rows of each image that stands more than once, in the order of their first rows."""
    _, number, times = np.unique(_keys(digests), return_inverse=True, return_counts=True)
    rows = np.flatnonzero(times[number] > 1)
    groups = np.split(rows[np.argsort(number[rows], kind="stable")], np.cumsum(times[times > 1])[:-1])
    return sorted((group for group in groups if len(group)), key=lambda group: int(group[0]))


def count_repeated(
    digests: NDArray[np.uint8], labels: NDArray[np.int64], train_images: int
) -> tuple[Repeated, list[NDArray[np.int64]]]:
    """What stands more than once, and the rows of each image that crosses classes or parts.

    digests: (N, 16); labels: (N,); the first `train_images` rows are the training part.
    """
    groups = copies(digests)
    parts = [len(set((group < train_images).tolist())) > 1 for group in groups]
    classes = [len(set(labels[group].tolist())) > 1 for group in groups]
    crossing = [group for group, *crosses in zip(groups, parts, classes, strict=True) if any(crosses)]
    return Repeated(images=len(groups), across_parts=sum(parts), across_classes=sum(classes)), crossing


def shared_rows(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The rows of `one` whose image is in `other` as well."""
    return np.flatnonzero(np.isin(_keys(one), _keys(other)))


def read_digests(folder: Path) -> NDArray[np.uint8]:
    """The digests of a data set, training images first. Raises UserError naming the damaged file."""
    return read_npy(folder / DIGESTS_FILE, np.dtype(np.uint8), (None, DIGEST_BYTES))


def _keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(digests).view(np.dtype((np.void, DIGEST_BYTES))).ravel()
