"""Test images worth looking at: some of the rarest classes, and the mistakes that a network was most sure of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailnas.data.dataset import Part
from tailnas.data.npy import write_npy

RARE_CLASSES = 3
OF_EACH = 8
MISTAKES = 10
LARGEST_SIDE = 64
"""Pixels to which larger images are reduced."""

IMAGES_FILE, TABLE_FILE = "examples.npy", "examples.csv"


@dataclass(frozen=True)
class Examples:
    """rows: `kind` ("rare" or "mistake"), `image` (row of the test part), and for each network `<name>`, the class it
    predicts, and `<name>_probability`. images: uint8 (rows, C, h, h), at most LARGEST_SIDE wide.
    """

    rows: list[dict[str, str | int | float]]
    images: NDArray[np.uint8]


def choose_examples(probabilities: Mapping[str, NDArray[np.float64]], test: Part, counts: Sequence[int]) -> Examples:
    """The first OF_EACH test images of each of the RARE_CLASSES rarest classes that have any, rarest first, and the
    MISTAKES wrong predictions of the last network with the largest probability, ties by row.

    probabilities: (N, K) of each network. counts: (K,) training images of each class.
    """
    tested = [int(index) for index in np.argsort(np.asarray(counts), kind="stable") if test.counts[index]]
    rare = [row for index in tested[:RARE_CLASSES] for row in np.flatnonzero(test.labels == index)[:OF_EACH].tolist()]
    last = [*probabilities.values()][-1]
    confidence = np.where(last.argmax(axis=1) == test.labels, -1.0, last.max(axis=1))
    mistakes = [row for row in np.argsort(-confidence, kind="stable")[:MISTAKES].tolist() if confidence[row] >= 0]
    rows: list[dict[str, str | int | float]] = []
    for kind, chosen in (("rare", rare), ("mistake", mistakes)):
        for image in chosen:
            row: dict[str, str | int | float] = {"kind": kind, "image": image, "label": int(test.labels[image])}
            for name, values in probabilities.items():
                row |= {name: int(values[image].argmax()), f"{name}_probability": round(float(values[image].max()), 4)}
            rows.append(row)
    return Examples(rows, np.stack([_reduced(test.images[image]) for image in [*rare, *mistakes]]))


def write_examples(folder: Path, examples: Examples) -> None:
    """examples.csv, one row per picture of examples.npy."""
    write_npy(folder / IMAGES_FILE, examples.images)
    with (folder / TABLE_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(examples.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(examples.rows)


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (C, H, H) no wider than LARGEST_SIDE."""
    if image.shape[-1] <= LARGEST_SIDE:
        return image
    size = (LARGEST_SIDE, LARGEST_SIDE)
    return np.stack([np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in image])
