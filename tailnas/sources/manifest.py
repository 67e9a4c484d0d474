"""Images of the user's own that a CSV file lists: path, label and, where there are such, split and group."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailnas.data.dataset import Dataset
from tailnas.fetch.class_folders import elsewhere, require_distinct
from tailnas.fetch.file_set import (
    PARTS,
    VAL_TESTS,
    VAL_TRAINS,
    FileSet,
    FileSettings,
    counts_of,
    grouped,
    read_files,
    shared_files,
)
from tailnas.foundation.class_names import FORMULA, wrong_class_name
from tailnas.foundation.errors import UserError, short

COLUMNS = ("path", "label")


class Settings(FileSettings):
    """Your own images, listed in a CSV file with the columns path, label and, if you like, split and group."""

    root: Annotated[str, Field(min_length=1)] = Field(
        description="Folder that holds the images and the CSV file; paths in it are relative to this folder."
    )
    file: Annotated[str, Field(min_length=1)] = Field(description="The CSV file, relative to root.")

    local_paths: ClassVar[tuple[str, ...]] = ("root",)


def shared_images(settings: Settings, other: Settings) -> str | None:
    """The key and value by which `settings` and `other` are the same images: a file that both list."""
    shared = shared_files(_files(settings)[0], _files(other)[0])
    return f"file: {settings.file!r} lists {shared} of the same files" if shared else None


def watched(settings: Settings) -> list[Path]:
    """Every file that is listed. Raises UserError as `train_counts` does."""
    return list(_files(settings)[0].files)


def class_names(settings: Settings) -> tuple[str, ...]:
    """The labels, sorted; as numbers where all are such. Raises UserError as `train_counts` does."""
    return _files(settings)[0].classes


def train_counts(settings: Settings) -> list[int]:
    """Files of each class, less the test part. Raises UserError, one line with the file's, for a wrong manifest."""
    return counts_of(_files(settings)[0], settings, "manifest")[0]


def test_counts(settings: Settings) -> list[int]:
    """Files of each class in the test part. Raises UserError as `train_counts` does."""
    return counts_of(_files(settings)[0], settings, "manifest")[1]


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, root, file, test_per_class, group, unreadable, seed.

    Column split: train, val and test, as the folders of kind `folder`; without it, or empty throughout, the test part
    is a seeded choice. Raises UserError as `read_files` does.
    """
    files, note = _files(settings)
    if note:
        print(f"data: {settings.name}: file: {note}", flush=True)
    return read_files(files, settings, "manifest", image_size, channels)


def _files(settings: Settings) -> tuple[FileSet, str]:
    root = settings.own_folders()["root"]
    path, key = root / settings.file, f"data: {settings.name}: file"
    rows = _rows(path, root, key)
    labels = {row["label"] for row in rows}
    whole = all(label.isdecimal() for label in labels)
    classes = sorted(labels, key=(lambda label: (int(label), label)) if whole else None)
    if len(classes) < 2:
        raise UserError(f"{key}: {path}: {len(classes)} label(s); allowed: at least 2")
    if wrong := wrong_class_name(classes):
        raise UserError(f"{key}: {path}: {wrong}")
    number = {label: c for c, label in enumerate(classes)}
    names = [row["path"] for row in rows]
    files = [root / name for name in names]
    require_distinct(files, key)
    tested, note = _tested([row.get("split") or "" for row in rows], path, key)
    if "group" in rows[0]:
        if settings.group is not None:
            raise UserError(
                f"data: {settings.name}: group: {short(settings.group)}; allowed: null, since {path} has that column"
            )
        groups = [row["group"] for row in rows]
    else:
        groups = grouped(names, settings)
    numbers = np.array([number[row["label"]] for row in rows], np.int64)
    return FileSet(files, names, numbers, tested, groups, tuple(classes)), note


def _rows(path: Path, root: Path, key: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            if missing := [column for column in COLUMNS if column not in header]:
                raise UserError(f"{key}: {path}: no column {missing[0]!r}; allowed: path, label, split, group")
            rows = list(reader)
            lines = reader.line_num
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{key}: {path}: cannot be read ({reason}){elsewhere(path)}; allowed: a CSV file in UTF-8"
        ) from None
    if not rows:
        raise UserError(f"{key}: {path}: {lines} lines; allowed: a header and a row for each image")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(f"{key}: {path} row {number}: {len(header)} fields are in the header; allowed: as many")
        for column in COLUMNS:
            if not row[column] or not row[column].isprintable():
                raise UserError(f"{key}: {path} row {number}: {column}: {row[column]!r}; allowed: printable text")
        if row["path"].startswith(FORMULA):
            raise UserError(f"{key}: {path} row {number}: path: {row['path']!r}; allowed: no formula of a spreadsheet")
        if not (root / row["path"]).is_relative_to(root) or ".." in Path(row["path"]).parts:
            raise UserError(f"{key}: {path} row {number}: path: {row['path']!r}; allowed: a path below {root}")
    return rows


def _tested(splits: list[str], path: Path, key: str) -> tuple[NDArray[np.bool_] | None, str]:
    """Which rows are tested, None where no row says its split, and what is unusual."""
    if not any(splits):
        return None, ""
    parts = [PARTS.get(split.strip().casefold(), "") for split in splits]
    if "" in parts:
        row = parts.index("")
        raise UserError(f"{key}: {path} row {row + 2}: split: {splits[row]!r}; allowed: train, val, test")
    if "train" not in parts or len(set(parts)) == 1:
        raise UserError(f"{key}: {path}: split: {sorted(set(parts))}; allowed: train with test or val, or none at all")
    tested = "test" if "test" in parts else "val"
    note = VAL_TESTS if tested == "val" else VAL_TRAINS if "val" in parts else ""
    return np.array([part == tested for part in parts]), note
