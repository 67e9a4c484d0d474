"""history.csv: one row per epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from tailnas.training.checkpoint import Row


def write_history(path: Path, history: list[Row]) -> None:
    """Write the rows with the columns of the first; numbers keep all their digits."""
    columns = list(history[0]) if history else ["epoch"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
