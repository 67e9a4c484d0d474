"""Class frequencies and costs of a user's own, as CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailnas.foundation.errors import UserError, short


def read_prior(path: Path, classes: Sequence[str]) -> NDArray[np.float64]:
    """Class frequencies (K,), of any scale: a line `class,frequency` and one line for each of `classes`.

    Raises UserError naming the file: a class more or less, no number, one below 0, or nothing but 0.
    """
    head, rows = _rows(path, classes)
    if len(head) != 2:
        raise UserError(f"{path}: {len(head)} columns; allowed: 2, class and frequency")
    prior = _numbers(path, rows, classes)[:, 0]
    if not prior.any():
        raise UserError(f"{path}: no class has a frequency above 0; allowed: one or more")
    return prior


def read_costs(path: Path, classes: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Decisions (D) and what each costs where the class is k, (K, D): a line `class,DECISION,...`, one for each class.

    Decisions are classes or anything else, such as to ask someone. Raises UserError naming the file.
    """
    head, rows = _rows(path, classes)
    if len(head) < 3 or len(set(head[1:])) < len(head[1:]):
        raise UserError(f"{path}: columns {short(', '.join(head))}; allowed: class and two or more different decisions")
    return tuple(head[1:]), _numbers(path, rows, classes)


def _rows(path: Path, classes: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream, strict=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}; allowed: a CSV file") from None
    if not lines:
        raise UserError(f"{path}: empty; allowed: a header and a line for each class")
    head, *rows = lines
    names = [row[0] for row in rows]
    for name in names:
        if name not in classes:
            raise UserError(f"{path}: {short(name)}; allowed: the classes of the model ({short(', '.join(classes))})")
    for name in classes:
        if names.count(name) != 1:
            raise UserError(f"{path}: {short(name)}: {names.count(name)} lines; allowed: 1 for each class")
    for row in rows:
        if len(row) != len(head):
            raise UserError(f"{path}: {short(row[0])}: {len(row)} values; allowed: {len(head)}, as in the first line")
    return head, {row[0]: row[1:] for row in rows}


def _numbers(path: Path, rows: dict[str, list[str]], classes: Sequence[str]) -> NDArray[np.float64]:
    numbers = np.empty((len(classes), len(next(iter(rows.values())))))
    for k, name in enumerate(classes):
        for column, text in enumerate(rows[name]):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{path}: {short(name)}: {short(text)}; allowed: a finite number from 0")
            numbers[k, column] = value
    return numbers
