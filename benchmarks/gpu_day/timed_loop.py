"""A training loop that keeps the seconds of its epochs and ends in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from benchmarks.gpu_day.results import Day
from tailnas.training.checkpoint import Row, Stateful
from tailnas.training.loop import Loop, RunEpoch


class TimedLoop(Loop):
    """Raises OutOfTime before an epoch for which `day` leaves no time; the next call goes on there.

    epoch_done: told each epoch's row, with its `seconds`, and the parts of the training; it may return more columns.
    """

    def __init__(
        self, title: str, day: Day, name: str, epoch_done: Callable[[Row, Mapping[str, Stateful]], Row] | None = None
    ) -> None:
        folder: Path = day.folder
        super().__init__(title, folder / "checkpoints" / f"{name}.pt", folder / "events" / name, "lines")
        self.day, self.epoch_done = day, epoch_done
        self.longest = 0.0

    def one_epoch(
        self, epoch: int, run_epoch: RunEpoch, step_done: Callable[[], None], parts: Mapping[str, Stateful]
    ) -> Row:
        self.day.require(1.2 * self.longest)
        begun = time.perf_counter()
        row = super().one_epoch(epoch, run_epoch, step_done, parts)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        row["seconds"] = time.perf_counter() - begun
        if self.epoch_done is not None:
            row |= self.epoch_done({"epoch": epoch + 1, **row}, parts)
        self.longest = max(self.longest, time.perf_counter() - begun)
        return row
