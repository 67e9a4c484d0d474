"""Curves of trainings that run: one file for each kind of stage, to which all its runs add a row after each epoch."""

from __future__ import annotations

import csv
import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from tailnas.training.checkpoint import Row

MEASURED = ("loss", "accuracy", "balanced_accuracy")
COLUMNS = ("run", "epoch", "epochs", *MEASURED)


class Live:
    """The rows of one run in `file`, a CSV with COLUMNS that is nobody's output; None keeps nothing.

    Processes may share the file: each change is made whole, under a lock on it.
    """

    def __init__(self, file: Path | None, run: str, epochs: int) -> None:
        self.file, self.run, self.epochs = file, run, epochs

    def begin(self, done: int) -> None:
        """Forget what an earlier process has added after epoch `done`."""
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.file, "a+") as stream:
            stream.seek(0)
            rows = [row for row in _whole(stream) if row["run"] != self.run or int(row["epoch"]) <= done]
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            stream.truncate(0)
            stream.write(text.getvalue())

    def add(self, row: Row) -> None:
        """A line of the history that is kept."""
        if self.file is not None:
            with _locked(self.file, "a") as stream:
                line = {"run": self.run, "epoch": row["epoch"], "epochs": self.epochs}
                line |= {name: row.get(name, "") for name in MEASURED}
                csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerow(line)


def _whole(stream: IO[str]) -> Iterator[dict[str, str]]:
    """The rows that are whole: a kill or a full disk may have cut one, or the head."""
    lines = (line for line in stream.read().replace("\0", "").splitlines() if line != ",".join(COLUMNS))
    for row in csv.DictReader(lines, COLUMNS):
        if None not in row and None not in row.values() and row["epoch"].isdecimal() and row["epochs"].isdecimal():
            yield row


def last_epochs(file: Path) -> dict[str, tuple[int, int]]:
    """Of each run in `file`, the last epoch and how many there are to be; none where the file is missing or damaged."""
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return {row["run"]: (int(row["epoch"]), int(row["epochs"])) for row in csv.DictReader(stream)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@contextmanager
def _locked(file: Path, mode: str) -> Iterator[IO[str]]:
    with file.open(mode, encoding="utf-8", errors="replace", newline="") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream
