"""A data set in memory, and the folder that stores it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailnas.data.npy import read_npy, write_npy
from tailnas.errors import UserError

META_FILE = "meta.json"
META_KEYS = ("name", "kind", "classes", "image_size", "channels", "train_counts")


@dataclass(frozen=True)
class Part:
    """Images uint8 (N, C, H, W), labels int64 (N,) in 0..K-1, and the K class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K,) images of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))


@dataclass(frozen=True)
class Dataset:
    """Training and test images of the same K classes, uint8 (N, C, H, W) with labels int64 (N,)."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str = ""
    kind: str = ""

    @property
    def train(self) -> Part:
        return Part(self.train_images, self.train_labels, self.classes)

    @property
    def test(self) -> Part:
        return Part(self.test_images, self.test_labels, self.classes)


@dataclass(frozen=True)
class Meta:
    """What meta.json says: names, image shape and the training images of each class."""

    name: str
    kind: str
    classes: tuple[str, ...]
    image_size: int
    channels: int
    train_counts: tuple[int, ...]


def save(dataset: Dataset, folder: Path) -> None:
    """Write the four arrays and meta.json; the bytes depend on the content alone."""
    folder.mkdir(parents=True, exist_ok=True)
    write_npy(folder / "train_images.npy", dataset.train_images)
    write_npy(folder / "train_labels.npy", dataset.train_labels)
    write_npy(folder / "test_images.npy", dataset.test_images)
    write_npy(folder / "test_labels.npy", dataset.test_labels)
    meta = {
        "name": dataset.name,
        "kind": dataset.kind,
        "classes": list(dataset.classes),
        "image_size": dataset.train_images.shape[-1],
        "channels": dataset.train_images.shape[1],
        "train_counts": dataset.train.counts.tolist(),
    }
    (folder / META_FILE).write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_train(folder: Path) -> Part:
    """The training images; test files are not opened. Raises UserError naming the damaged file."""
    meta = load_meta(folder)
    part = _load_part(folder, "train", meta)
    if part.counts.tolist() != list(meta.train_counts):
        raise UserError(
            f"{folder / 'train_labels.npy'}: {part.counts.tolist()} images a class; "
            f"allowed: {list(meta.train_counts)}, as in {META_FILE}"
        )
    return part


def load_test(folder: Path) -> Part:
    """The test images, for evaluation alone. Raises UserError naming the damaged file."""
    return _load_part(folder, "test", load_meta(folder))


def _load_part(folder: Path, part: str, meta: Meta) -> Part:
    image_path, label_path = folder / f"{part}_images.npy", folder / f"{part}_labels.npy"
    shape = (None, meta.channels, meta.image_size, meta.image_size)
    images = read_npy(image_path, np.dtype(np.uint8), shape)
    labels = read_npy(label_path, np.dtype(np.int64), (len(images),))
    if labels.min() < 0 or labels.max() >= len(meta.classes):
        raise UserError(
            f"{label_path}: labels from {labels.min()} to {labels.max()}; allowed: 0 to {len(meta.classes) - 1}"
        )
    return Part(images, labels, meta.classes)


def load_meta(folder: Path) -> Meta:
    """Read and check meta.json. Raises UserError naming the file and the key."""
    path = folder / META_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the fetch stage") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict) or set(found) != set(META_KEYS):
        keys = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise UserError(f"{path}: holds {keys}; allowed: an object with the keys {', '.join(META_KEYS)}")
    for key in ("name", "kind"):
        _require(path, found, key, isinstance(found[key], str), "a text")
    classes = found["classes"]
    named = isinstance(classes, list) and len(classes) >= 2 and all(isinstance(name, str) for name in classes)
    _require(path, found, "classes", named and len(set(classes)) == len(classes), "two or more different names")
    _require(path, found, "image_size", _is_whole(found["image_size"], 1), "a whole number from 1")
    _require(path, found, "channels", _is_whole(found["channels"], 1), "a whole number from 1")
    counts = found["train_counts"]
    counted = isinstance(counts, list) and len(counts) == len(classes) and all(_is_whole(n, 0) for n in counts)
    _require(path, found, "train_counts", counted, f"{len(classes)} whole numbers from 0, one for each class")
    return Meta(
        found["name"],
        found["kind"],
        tuple(classes),
        found["image_size"],
        found["channels"],
        tuple(found["train_counts"]),
    )


def _require(path: Path, found: dict[str, Any], key: str, good: bool, allowed: str) -> None:
    if not good:
        raise UserError(f"{path}: {key}: {_short(found[key])} is not allowed; allowed: {allowed}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_whole(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least
