"""Images of the user's own: `path`/<class>/*, or `path`/train/<class>/* with test/, val/ or both beside it.

Training/, VAL/ and so on will do as well. Classes are sorted by name. Without test/, val/ is the test part; with it,
val/ joins train/, since the search cuts its own half of the training images. Other folders beside them are named and
not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from tailnas.data.dataset import Dataset
from tailnas.fetch.class_folders import class_files, listed, names_below, require_distinct, subfolders
from tailnas.fetch.file_set import (
    PARTS,
    VAL_TESTS,
    VAL_TRAINS,
    FileSet,
    FileSettings,
    counts_of,
    grouped,
    read_files,
)
from tailnas.foundation.errors import UserError


class Settings(FileSettings):
    """Your own images, one directory per class, any sizes and modes."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="Folder with one directory per class, or with train/ and test/ (or val/) that hold them."
    )

    local_paths: ClassVar[tuple[str, ...]] = ("path",)


def shared_images(settings: Settings, other: Settings) -> str | None:
    """The key and value by which `settings` and `other` are the same images: one folder holds the other."""
    own, theirs = (data.own_folders()["path"].resolve() for data in (settings, other))
    shared = own.is_relative_to(theirs) or theirs.is_relative_to(own)
    return f"path: {settings.path!r} holds the same images" if shared else None


def watched(settings: Settings) -> list[Path]:
    """Every file that is taken for an image. Raises UserError as `train_counts` does."""
    return list(_files(settings)[0].files)


class _Layout(NamedTuple):
    """Folders that hold classes: those for training, and the test part's where there is one; notes: what is unusual."""

    training: list[Path]
    test: Path | None
    notes: list[str]


def class_names(settings: Settings) -> tuple[str, ...]:
    """Names of the class directories. Raises UserError as `train_counts` does."""
    return _files(settings)[0].classes


def train_counts(settings: Settings) -> list[int]:
    """Files of each class, less the test part. Raises UserError for a folder that cannot serve."""
    return counts_of(_files(settings)[0], settings, "folder")[0]


def test_counts(settings: Settings) -> list[int]:
    """Files of each class in the test part. Raises UserError as `train_counts` does."""
    return counts_of(_files(settings)[0], settings, "folder")[1]


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, path, test_per_class, group, unreadable, seed.

    The test part is test/, whole, or else val/, or else a seeded choice of each class. Raises UserError as `read_files`
    does.
    """
    files, notes = _files(settings)
    for note in notes:
        print(f"data: {settings.name}: path: {note}", flush=True)
    return read_files(files, settings, "folder", image_size, channels)


def _files(settings: Settings) -> tuple[FileSet, list[str]]:
    key, root = f"data: {settings.name}: path", settings.own_folders()["path"]
    layout = _layout(root, key)
    folders = [*layout.training, *([layout.test] if layout.test else [])]
    parts = [class_files(folder, key) for folder in folders]
    classes = tuple(parts[0])
    for folder, part in zip(folders[1:], parts[1:], strict=True):
        if differing := sorted(set(classes) ^ set(part)):
            both = f"{folders[0].name}/ and {folder.name}/"
            raise UserError(f"{key}: {root}: {listed(differing)} in one of {both} alone; allowed: in both")
    training = parts[: len(layout.training)]
    blocks = [(c, [path for part in training for path in part[name]], False) for c, name in enumerate(classes)]
    if layout.test:
        blocks += [(c, parts[-1][name], True) for c, name in enumerate(classes)]
    sizes = [len(paths) for _, paths, _ in blocks]
    files = [path for _, paths, _ in blocks for path in paths]
    require_distinct(files, key)
    names = names_below(root, files)
    tested = np.repeat([tested for _, _, tested in blocks], sizes) if layout.test else None
    labels = np.repeat(np.array([c for c, _, _ in blocks], np.int64), sizes)
    return FileSet(files, names, labels, tested, grouped(names, settings), classes), layout.notes


def _layout(root: Path, key: str) -> _Layout:
    """Raises UserError for parts that are there twice or without each other."""
    folders = subfolders(root, key) if root.is_dir() else []
    found = [(PARTS[folder.name.casefold()], folder) for folder in folders if _is_part(folder, key)]
    holding = dict(found)
    if len(holding) < len(found):
        names = listed([folder.name for _, folder in found])
        raise UserError(f"{key}: {root}: {names}; allowed: one for training, one for validation and one for test")
    if not holding:
        return _Layout([root], None, [])  # they are classes, if they are there at all
    if "train" not in holding or len(holding) == 1:
        (name, *_) = holding
        raise UserError(
            f"{key}: {root}: {name}/ holds class directories; allowed: train/ with test/ or val/, or none of them"
        )
    notes = []
    if others := [folder.name for folder in folders if folder not in holding.values()]:
        notes.append(f"warning: {listed(others)} beside train/ and the test part are not read")
    if "test" not in holding:
        return _Layout([holding["train"]], holding["val"], [*notes, VAL_TESTS])
    if "val" in holding:
        notes.append(VAL_TRAINS)
    return _Layout([holding[part] for part in ("train", "val") if part in holding], holding["test"], notes)


def _is_part(folder: Path, key: str) -> bool:
    return folder.name.casefold() in PARTS and bool(subfolders(folder, key))
