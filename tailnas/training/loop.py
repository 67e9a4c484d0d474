"""The loop around every training run: an epoch, its line of history, its checkpoint."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tailnas.foundation.errors import UserError
from tailnas.training.checkpoint import Checkpoint, Row, Stateful
from tailnas.training.live import Live
from tailnas.training.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

RunEpoch = Callable[[int, Callable[[], None]], Row]
"""Runs epoch e (from 0), calls its second argument after each step, returns the epoch's line of history."""


class Loop:
    """Runs epochs, and goes on after the last checkpointed one if an earlier process was interrupted.

    title: for the progress display; its first word is the section of params.yaml that holds its settings.
    checkpoint: the file; it outlives the loop, and the stage removes it once its outputs are written. events: folder
    for TensorBoard. live: file for the curves of `dvc plots`, see `Live`.
    """

    def __init__(self, title: str, checkpoint: Path, events: Path, progress: str, live: Path | None = None) -> None:
        self.title, self.checkpoint, self.events, self.progress = title, checkpoint, events, progress
        self.live = live
        self.stage, _, self.name = title.partition(" ")
        self.section = f"{self.stage}.training"

    def part(self, name: str, section: str | None = None) -> Loop:
        """A loop of its own for one of several phases of the same work, with a checkpoint and events of its own.

        section: where its learning rate stands, if that is another.
        """
        file = self.checkpoint.with_name(f"{self.checkpoint.stem}-{name}{self.checkpoint.suffix}")
        part = Loop(f"{self.title} {name}", file, self.events / name, self.progress, self.live)
        part.section = section or self.section
        return part

    def run(
        self,
        epochs: int,
        steps: int,
        run_epoch: RunEpoch,
        parts: Mapping[str, Stateful],
        show: Callable[[SummaryWriter, int], None] | None = None,
        stop: Callable[[Sequence[Row]], bool] | None = None,
    ) -> list[Row]:
        """Train for `epochs` epochs of `steps` steps; returns one row per epoch.

        An interruption (Ctrl-C) says what is kept before it goes on to the caller. TensorBoard's charts are named by
        the stage, since an accuracy of one stage is not an accuracy of another.

        parts: whatever `run_epoch` changes; a run that is killed and started again ends bit-identical on a CPU.
        show: adds images of an epoch to TensorBoard. stop: whether the rows so far are the last ones.
        """
        checkpoint = Checkpoint(self.checkpoint, parts)
        history = checkpoint.load()
        if history:
            print(f"{self.title}: going on after epoch {len(history)} of {epochs}", flush=True)
        progress = Progress(self.title, epochs, steps, self.progress, done=len(history))
        writer = _event_writer(self.events, len(history))
        live = Live(self.live, self.name, epochs)
        live.begin(len(history))
        saved = len(history)
        try:
            for epoch in range(len(history), epochs):
                if stop is not None and stop(history):
                    break
                row = run_epoch(epoch, progress.step)
                history.append({"epoch": epoch + 1, **row})
                for name, value in row.items():
                    if not isinstance(value, str):
                        writer.add_scalar(f"{self.stage}/{name}", value, epoch + 1)
                if show is not None:
                    show(writer, epoch + 1)
                checkpoint.save(history)
                saved = len(history)
                live.add(history[-1])
                progress.epoch(history[-1])
        except KeyboardInterrupt:
            print(f"\n{self.title}: {kept(saved, epochs)}", file=sys.stderr, flush=True)
            raise
        finally:
            progress.close()
            writer.close()
        return history


def kept(done: int, epochs: int) -> str:
    """What to say of an interrupted training."""
    return f"{done} of {epochs} epochs kept; the same command goes on"


class InnerLoop(Loop):
    """Epochs inside one step of an outer loop, which alone has a checkpoint: nothing is kept or shown here.

    step_done: called after each optimiser step, for the outer loop's progress.
    """

    def __init__(self, title: str, step_done: Callable[[], None]) -> None:
        super().__init__(title, Path(), Path(), "none")
        self.step_done = step_done

    def run(
        self,
        epochs: int,
        steps: int,
        run_epoch: RunEpoch,
        parts: Mapping[str, Stateful],
        show: Callable[[SummaryWriter, int], None] | None = None,
        stop: Callable[[Sequence[Row]], bool] | None = None,
    ) -> list[Row]:
        history: list[Row] = []
        for epoch in range(epochs):
            if stop is not None and stop(history):
                break
            history.append({"epoch": epoch + 1, **run_epoch(epoch, self.step_done)})
        return history


def _event_writer(folder: Path, epochs_done: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    if epochs_done == 0 and folder.exists():
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    return SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)


def require_finite(
    section: str, loss: float, network: nn.Module | None = None, *, what: str = "the loss", or_else: str = ""
) -> None:
    """Raises UserError where training has diverged: by its loss, or by a weight or statistic of `network`.

    section: where its learning rate stands. what: what `loss` is, if it is another number. or_else: further keys that
    can be at fault.
    """
    if math.isfinite(loss) and (network is None or all(map(_is_finite, network.state_dict().values()))):
        return
    became = "a weight became infinite or nan" if math.isfinite(loss) else f"{what} became {loss}"
    raise UserError(
        f"{section}.learning_rate: {became}; allowed: a rate at which training stays finite (or a smaller "
        f"weight_decay or momentum{or_else}, or a gradient_clip)"
    )


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
