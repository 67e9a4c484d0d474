"""Where the images of a data set come from: files of the user's own, and groups of them that belong together."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailnas.data.npy import read_npy
from tailnas.foundation.errors import UserError

GROUPS_FILE, TABLE_FILE = "groups.npy", "files.csv"
TABLE_COLUMNS = ("file", "part", "row", "class", "group", "problem")


@dataclass(frozen=True)
class Origin:
    """Where N images come from, training images first.

    files: (N,) paths; groups: (N,) names, "" for an image by itself; skipped: file, class name and problem of those
    that are no whole images.
    """

    files: Sequence[str]
    groups: Sequence[str]
    skipped: Sequence[tuple[str, str, str]] = ()


def group_numbers(names: Sequence[str]) -> NDArray[np.int64]:
    """int64 (N,): the row at which each image's group stands first; that of an image by itself ("") is its own."""
    firsts: dict[str, int] = {}
    return np.array([firsts.setdefault(name, row) if name else row for row, name in enumerate(names)], np.int64)


def read_groups(folder: Path, images: int) -> NDArray[np.int64]:
    """The groups of the first `images` images, the training images. Raises UserError naming the damaged file."""
    groups = read_npy(folder / GROUPS_FILE, np.dtype(np.int64), (None,))[:images]
    if len(groups) < images:
        raise UserError(f"{folder / GROUPS_FILE}: {len(groups)} images; allowed: at least {images}")
    return groups


def write_table(path: Path, origin: Origin, parts: Sequence[tuple[str, list[int]]], classes: Sequence[str]) -> None:
    """file, part, row (of the part's arrays), class, group, problem; files that were skipped come last.

    parts: name and labels of each part, in the order of the files.
    """
    rows = [(part, row, classes[label]) for part, labels in parts for row, label in enumerate(labels)]
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(TABLE_COLUMNS)
        for name, where, group in zip(origin.files, rows, origin.groups, strict=True):
            writer.writerow([name, *where, group, ""])
        writer.writerows([name, "", "", label, "", problem] for name, label, problem in origin.skipped)


def files_of(folder: Path, part: str, images: int) -> list[str]:
    """The files of the `images` rows of `part`; empty for data that is not in files of the user's own.

    Raises UserError naming a damaged table.
    """
    path = folder / TABLE_FILE
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(next(reader, ()))
            files = [row[0] for row in reader if row[1:2] == [part]]
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read ({error}); allowed: the table that the fetch stage writes") from None
    if header != TABLE_COLUMNS or len(files) != images:
        raise UserError(f"{path}: {len(files)} files in part {part!r}; allowed: {images}, as {part}_labels.npy has")
    return files
