"""The long-tailed training set in files: which images, and which half of the search each belongs to."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tailnas.foundation.errors import UserError

Half = Literal["weight", "architecture"]
"""The half on which a search trains weights, and the one on which it trains alphas."""
HALVES: tuple[Half, ...] = get_args(Half)

SPLIT_FILE = "split.csv"
COUNTS_FILE = "counts.csv"
FOLD_FILE = "test.csv"
SPLIT_COLUMNS = ("index", "label", "half")
FOLD_COLUMNS = ("index", "label")
COUNTS_COLUMNS = ("class", "name", "total", *HALVES)


@dataclass(frozen=True)
class Split:
    """A long-tailed training set: which images, and which half of the search each belongs to.

    indices: int64 (M,), rows of the training images, increasing; labels: int64 (M,); halves: str (M,), `weight` or
    `architecture`; num_classes: K.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    halves: NDArray[np.str_]
    num_classes: int

    def half(self, half: Half) -> NDArray[np.int64]:
        """Rows of the training images of one half."""
        return self.indices[self.halves == half]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K, 3): images of each class in total, in the weight half and in the architecture half."""
        weight, architecture = (
            np.bincount(self.labels[self.halves == half], minlength=self.num_classes) for half in HALVES
        )
        return np.stack([weight + architecture, weight, architecture], axis=1)


def write_split(result: Split, folder: Path, classes: Sequence[str]) -> None:
    """Write split.csv (index, label, half) and counts.csv (class, name, total, weight, architecture)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(result.indices.tolist(), result.labels.tolist(), result.halves.tolist(), strict=True)
    _write_csv(folder / SPLIT_FILE, SPLIT_COLUMNS, rows)
    named = zip(classes, result.counts.tolist(), strict=True)
    _write_csv(folder / COUNTS_FILE, COUNTS_COLUMNS, ((c, name, *row) for c, (name, row) in enumerate(named)))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_split(folder: Path, num_images: int | None = None, num_classes: int | None = None) -> Split:
    """Read what `write_split` wrote.

    num_images, num_classes: what the data set has, to hold the indices and labels against. Raises UserError naming
    file and line for a missing or damaged file, and where split.csv and counts.csv disagree.
    """
    path = folder / SPLIT_FILE
    stated = _read_counts(folder / COUNTS_FILE)
    classes = len(stated)
    if num_classes is not None and classes != num_classes:
        raise UserError(f"{folder / COUNTS_FILE}: {classes} classes; allowed: {num_classes}, as in the data set")
    indices, labels, halves = [], [], []
    seen: set[int] = set()
    for line, (index_text, label_text, half) in _read_csv(path, SPLIT_COLUMNS):
        index = _whole_field(path, line, "index", index_text, None if num_images is None else num_images - 1)
        label = _whole_field(path, line, "label", label_text, classes - 1)
        if half not in HALVES:
            raise UserError(f"{path} line {line}: half: {half!r}; allowed: {', '.join(HALVES)}")
        if index in seen:
            raise UserError(f"{path} line {line}: index: {index} stands there twice; allowed: once")
        seen.add(index)
        indices.append(index)
        labels.append(label)
        halves.append(half)
    result = Split(np.array(indices, np.int64), np.array(labels, np.int64), np.array(halves, np.str_), classes)
    for c, (found, expected) in enumerate(zip(result.counts.tolist(), stated, strict=True)):
        if found != expected:
            raise UserError(
                f"{path}: class {c}: {found} images (total, weight, architecture); "
                f"allowed: {expected}, as in {COUNTS_FILE}"
            )
    return result


def write_fold(rows: NDArray[np.int64], labels: NDArray[np.int64], folder: Path) -> None:
    """Write test.csv (index, label): rows (M,) of the training images that this split keeps for the test."""
    _write_csv(folder / FOLD_FILE, FOLD_COLUMNS, zip(rows.tolist(), labels.tolist(), strict=True))


def read_fold(folder: Path) -> NDArray[np.int64] | None:
    """The rows (M,) that `write_fold` wrote; None where the data has a test part. Raises UserError."""
    path = folder / FOLD_FILE
    if not path.exists():
        return None
    rows = [_whole_field(path, line, "index", index, None) for line, (index, _) in _read_csv(path, FOLD_COLUMNS)]
    if not rows:
        raise UserError(f"{path}: no row; allowed: at least one test image")
    return np.array(rows, np.int64)


def _read_counts(path: Path) -> list[list[int]]:
    rows: list[list[int]] = []
    for line, (label, _, *counts) in _read_csv(path, COUNTS_COLUMNS):
        if label != str(len(rows)):
            raise UserError(f"{path} line {line}: class: {label!r}; allowed: {len(rows)}, classes in order from 0")
        rows.append([_whole_field(path, line, *field, None) for field in zip(COUNTS_COLUMNS[2:], counts, strict=True)])
    return rows


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: what the split stage writes") from None
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); allowed: what the split stage writes") from None
    if header != list(columns):
        raise UserError(f"{path}: columns {','.join(header)!r}; allowed: {','.join(columns)!r}")
    for line, row in rows:
        if len(row) != len(columns):
            raise UserError(f"{path} line {line}: {len(row)} field(s); allowed: {len(columns)} ({','.join(columns)})")
    if not rows:
        raise UserError(f"{path}: no rows below the header; allowed: at least one")
    return rows


def _whole_field(path: Path, line: int, column: str, text: str, largest: int | None) -> int:
    allowed = f"whole numbers from 0 to {largest}" if largest is not None else "whole numbers from 0"
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or (largest is not None and int(text) > largest):
        raise UserError(f"{path} line {line}: {column}: {text!r}; allowed: {allowed}")
    return int(text)
