"""A data set in memory, and the folder that stores it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tailnas.data.npy import read_npy, write_npy
from tailnas.data.origin import GROUPS_FILE, TABLE_FILE, Origin, files_of, group_numbers, write_table
from tailnas.data.repeated import DIGESTS_FILE, Repeated, count_repeated, image_digests
from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import Count, Section, first_mistake

META_FILE = "meta.json"
FILES = (
    *(META_FILE, DIGESTS_FILE, GROUPS_FILE, TABLE_FILE),
    *(f"{part}_{what}.npy" for part in ("train", "test") for what in ("images", "labels")),
)
"""What `save` writes; files.csv where the images are files of the user's own."""


@dataclass(frozen=True)
class Part:
    """Images uint8 (N, C, H, W), labels int64 (N,) in 0..K-1, and the K class names.

    Images that were loaded stay in their file until they are used.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K,) images of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def only(self, rows: NDArray[np.int64]) -> Part:
        """The images `rows` (M,) of it."""
        return Part(self.images[rows], self.labels[rows], self.classes)


@dataclass(frozen=True)
class Dataset:
    """Training and test images of the same K classes, uint8 (N, C, H, W) with labels int64 (N,).

    The test part may be empty where `split.folds` tests every image once.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str = ""
    kind: str = ""
    origin: Origin | None = None

    @property
    def train(self) -> Part:
        return Part(self.train_images, self.train_labels, self.classes)

    @property
    def test(self) -> Part:
        return Part(self.test_images, self.test_labels, self.classes)


class Meta(Section):
    """What meta.json says: names, image shape, images of each class, and images that stand more than once."""

    name: str
    kind: str
    classes: tuple[str, ...]
    image_size: Count
    channels: Count
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    repeated: Repeated


def save(dataset: Dataset, folder: Path) -> Repeated:
    """Write the four arrays, digests and groups of all images, meta.json and, of files of the user's own, files.csv.

    The bytes depend on the content alone.
    Returns how many images stand more than once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_npy(folder / "train_images.npy", dataset.train_images)
    write_npy(folder / "train_labels.npy", dataset.train_labels)
    write_npy(folder / "test_images.npy", dataset.test_images)
    write_npy(folder / "test_labels.npy", dataset.test_labels)
    digests = np.concatenate([image_digests(part.images) for part in (dataset.train, dataset.test)])
    write_npy(folder / DIGESTS_FILE, digests)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    names = dataset.origin.groups if dataset.origin else [""] * len(labels)
    write_npy(folder / GROUPS_FILE, group_numbers(names))
    if dataset.origin is not None:
        rows = [("train", dataset.train_labels.tolist()), ("test", dataset.test_labels.tolist())]
        write_table(folder / TABLE_FILE, dataset.origin, rows, dataset.classes)
    repeated, _ = count_repeated(digests, labels, len(dataset.train_labels))
    _, channels, image_size, _ = dataset.train_images.shape
    meta = Meta(
        name=dataset.name,
        kind=dataset.kind,
        classes=dataset.classes,
        image_size=image_size,
        channels=channels,
        train_counts=tuple(dataset.train.counts.tolist()),
        test_counts=tuple(dataset.test.counts.tolist()),
        repeated=repeated,
    )
    text = json.dumps(meta.model_dump(), indent=1, ensure_ascii=False) + "\n"
    (folder / META_FILE).write_text(text, encoding="utf-8")
    return repeated


def load_train(folder: Path) -> Part:
    """The training images; test files are not opened. Raises UserError naming the damaged file."""
    meta = load_meta(folder)
    part = _load_part(folder, "train", meta)
    if part.counts.tolist() != list(meta.train_counts):
        raise UserError(
            f"{folder / 'train_labels.npy'}: {part.counts.tolist()} images per class; "
            f"allowed: {list(meta.train_counts)}, as in {META_FILE}"
        )
    return part


def load_test(folder: Path) -> Part:
    """The test images, for evaluation alone. Raises UserError naming the damaged file, or where there are none."""
    return _load_part(folder, "test", load_meta(folder))


def load_tested(folder: Path, rows: NDArray[np.int64] | None) -> tuple[Part, list[str]]:
    """What a run is tested on, and the names of the files, if they are such: the test images, or, where folds test
    every image once, those at `rows` of the training images. Raises UserError naming the damaged file.
    """
    if rows is None:
        part = load_test(folder)
        return part, files_of(folder, "test", len(part.labels))
    part = load_train(folder)
    files = files_of(folder, "train", len(part.labels))
    if rows.max() >= len(part.labels):
        raise UserError(f"{folder}: image {rows.max()} is tested; allowed: 0 to {len(part.labels) - 1}")
    return part.only(rows), [files[row] for row in rows.tolist()] if files else []


def _load_part(folder: Path, part: str, meta: Meta) -> Part:
    image_path, label_path = folder / f"{part}_images.npy", folder / f"{part}_labels.npy"
    shape = (None, meta.channels, meta.image_size, meta.image_size)
    images = read_npy(image_path, np.dtype(np.uint8), shape, mapped=True)
    labels = read_npy(label_path, np.dtype(np.int64), (len(images),))
    if labels.min() < 0 or labels.max() >= len(meta.classes):
        raise UserError(
            f"{label_path}: labels from {labels.min()} to {labels.max()}; allowed: 0 to {len(meta.classes) - 1}"
        )
    return Part(images, labels, meta.classes)


def load_meta(folder: Path) -> Meta:
    """Read meta.json. Raises UserError naming the file and the key."""
    path = folder / META_FILE
    try:
        return Meta.model_validate_json(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: the object that the fetch stage writes") from None
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error)}; allowed: the object that the fetch stage writes") from None
