"""Progress of long work: a bar with the time left in a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from tailnas.training.checkpoint import Row

SHOWN = ("loss", "accuracy", "balanced_accuracy")


class Progress:
    """Reports on `epochs` epochs of `steps` steps each, of which `done` epochs lie behind.

    mode: "bar", "lines", "none", or "auto", which is a bar where stderr is a terminal and lines elsewhere.
    """

    def __init__(self, title: str, epochs: int, steps: int, mode: str, done: int = 0) -> None:
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "lines"
        self.title, self.epochs, self.mode = title, epochs, mode
        self._done = done
        self._finished_here = 0
        self._started = time.monotonic()
        self._bar = None
        if mode == "bar":
            self._bar = tqdm(total=epochs * steps, initial=done * steps, desc=title, unit="step", dynamic_ncols=True)

    def step(self) -> None:
        """One optimiser step is behind."""
        if self._bar is not None:
            self._bar.update()

    def epoch(self, row: Row) -> None:
        """One epoch is behind; `row` is its line of the history."""
        self._finished_here += 1
        epoch = self._done + self._finished_here
        shown = {key: f"{value:.4g}" for key, value in row.items() if isinstance(value, float)}
        few = {key: shown[key] for key in SHOWN if key in shown}
        if self._bar is not None:
            self._bar.set_postfix({"epoch": f"{epoch}/{self.epochs}", **few})
        elif self.mode == "lines":
            seconds = (time.monotonic() - self._started) / self._finished_here
            left = seconds * (self.epochs - epoch)
            values = " ".join(f"{key.replace('_', ' ')} {value}" for key, value in few.items())
            print(
                f"{self.title} epoch {epoch}/{self.epochs} {values} ({seconds:.1f} s per epoch, {left:.0f} s left)",
                flush=True,
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
