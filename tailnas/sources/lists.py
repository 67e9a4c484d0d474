"""Images that list files name, one `path label` per line, as those of ImageNet-LT, Places-LT and iNaturalist 2018.

The lists are those of Liu et al. 2019 (1904.05160), labels counted from 0. Images that stand there twice are left as
published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from tailnas.data.dataset import Dataset
from tailnas.fetch.class_folders import elsewhere
from tailnas.fetch.file_set import FileSet, FileSettings, counts_of, grouped, read_files, shared_files
from tailnas.foundation.errors import UserError

ListFile = Annotated[str, Field(min_length=1)]


class Settings(FileSettings):
    """Images that published list files name, such as ImageNet_LT_train.txt: a path and a number per line."""

    root: Annotated[str, Field(min_length=1)] = Field(
        description="Folder that holds the images and the lists; paths in them are relative to this folder."
    )
    train: ListFile = Field(description="List of the training images, relative to root.")
    test: ListFile | None = Field(
        description="List of the test images, which are used whole; null takes them from the training list."
    )

    local_paths: ClassVar[tuple[str, ...]] = ("root",)


def shared_images(settings: Settings, other: Settings) -> str | None:
    """The key and value by which `settings` and `other` are the same images: a file that both list."""
    shared = shared_files(_files(settings), _files(other))
    return f"train: {settings.train!r} lists {shared} of the same files" if shared else None


def watched(settings: Settings) -> list[Path]:
    """Every file that is listed. Raises UserError as `train_counts` does."""
    return list(_files(settings).files)


def class_names(settings: Settings) -> tuple[str, ...]:
    """The labels, 0 to K-1. Raises UserError as `train_counts` does."""
    return _files(settings).classes


def train_counts(settings: Settings) -> list[int]:
    """Files of each class, less the test part. Raises UserError, one line with the list's, for a wrong list."""
    return counts_of(_files(settings), settings, "lists")[0]


def test_counts(settings: Settings) -> list[int]:
    """Files of each class in the test part. Raises UserError as `train_counts` does."""
    return counts_of(_files(settings), settings, "lists")[1]


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, root, train, test, test_per_class, group, unreadable, seed. Raises UserError as `read_files`."""
    return read_files(_files(settings), settings, "lists", image_size, channels, published=True)


def _files(settings: Settings) -> FileSet:
    root = settings.own_folders()["root"]
    key = f"data: {settings.name}"
    names, labels = _listed(root, settings.train, f"{key}: train")
    tested = None
    if settings.test is not None:
        further, theirs = _listed(root, settings.test, f"{key}: test")
        if unknown := sorted(set(theirs) - set(labels)):
            raise UserError(f"{key}: test: label {unknown[0]} is in {settings.test} alone; allowed: in both lists")
        tested = np.repeat([False, True], [len(names), len(further)])
        names, labels = names + further, labels + theirs
    if twice := len(names) - len(set(names)):
        raise UserError(f"{key}: train: {twice} file(s) listed twice; allowed: each once, in one list")
    classes = max(labels) + 1
    if classes < 2 or len(set(labels)) < classes:
        absent = sorted(set(range(max(classes, 2))) - set(labels))[0]
        raise UserError(f"{key}: train: no image of label {absent}; allowed: 0 to K - 1, at least two")
    numbers = np.array(labels, np.int64)
    files = [root / name for name in names]
    return FileSet(files, names, numbers, tested, grouped(names, settings), tuple(map(str, range(classes))))


def _listed(root: Path, file: str, key: str) -> tuple[list[str], list[int]]:
    path = root / file
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        why = f"cannot be read ({reason}){elsewhere(path)}"
        raise UserError(f"{key}: {path}: {why}; allowed: `path label` per line") from None
    names, labels = [], []
    for number, line in enumerate(lines, 1):
        words = line.rsplit(maxsplit=1)
        if not words:
            continue
        name, label = words if len(words) == 2 else ("", words[0])
        outside = Path(name).is_absolute() or ".." in Path(name).parts
        if not name or outside or not (label.isascii() and label.isdecimal() and len(label) < 10):
            raise UserError(f"{key}: {path} line {number}: {line!r}; allowed: a path below {root} and a number from 0")
        names.append(name.strip())
        labels.append(int(label))
    if not names:
        raise UserError(f"{key}: {path}: no line; allowed: `path label` per line")
    return names, labels
