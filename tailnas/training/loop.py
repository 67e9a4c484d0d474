"""The loop around every training run: an epoch, its line of history, its checkpoint."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from tailnas.foundation.errors import UserError
from tailnas.space.network import LARGEST_WEIGHT
from tailnas.training.checkpoint import Checkpoint, Row, Stateful
from tailnas.training.live import Live
from tailnas.training.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from tailnas.foundation.settings import Section
    from tailnas.training.settings import Training

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

    def one_epoch(
        self, epoch: int, run_epoch: RunEpoch, step_done: Callable[[], None], parts: Mapping[str, Stateful]
    ) -> Row:
        """An epoch (from 0), for loops that do more around it: measure the parts after it, or keep its time."""
        return run_epoch(epoch, step_done)

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
                row = self.one_epoch(epoch, run_epoch, progress.step, parts)
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
            history.append({"epoch": epoch + 1, **self.one_epoch(epoch, run_epoch, self.step_done, parts)})
        return history


def _event_writer(folder: Path, epochs_done: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    if epochs_done == 0 and folder.exists():
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    return SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)


USUAL = {"learning_rate": 0.1, "weight_decay": 0.01, "momentum": 0.9}
USUAL_SCALE = 100.0
"""Largest usual values, and that of settings by which a loss is scaled."""


def require_finite(
    training: Training,
    section: str,
    value: float,
    network: nn.Module | None = None,
    *,
    what: str = "the loss",
    scales: Mapping[str, float] | None = None,
    more: Iterable[Tensor] = (),
) -> None:
    """Raises UserError where a training has diverged: by `value`, by a weight or statistic of `network`, or by `more`.

    section: where the learning rate of `training` stands; a section that has nothing else leaves the rest to that of
    the stage. what: what `value` is. scales: further keys that can be at fault, and what they are. The line begins with
    the key that is the furthest above what is usual, and names the others.
    """
    weights = [*more, *(network.state_dict().values() if network is not None else ())]
    if math.isfinite(value) and all(map(_is_sound, weights)):
        return
    became = (
        f"a weight became nan or larger than {LARGEST_WEIGHT:g}" if math.isfinite(value) else f"{what} became {value}"
    )
    whole = section if section.endswith(".training") else f"{section.partition('.')[0]}.training"
    suspects = {
        f"{section}.learning_rate": training.learning_rate,
        f"{whole}.weight_decay": training.weight_decay,
        f"{whole}.momentum": training.momentum,
        **(scales or {}),
    }
    first = max(suspects, key=lambda key: suspects[key] / USUAL.get(key.rpartition(".")[2], USUAL_SCALE))
    others = ", ".join(f"{key} ({number:g})" for key, number in suspects.items() if key != first)
    clip = f", or a smaller {whole}.gradient_clip" if hasattr(training, "gradient_clip") else ""
    raise UserError(
        f"{first}: {suspects[first]:g}: {became}; allowed: a value at which training stays finite; "
        f"others that can be at fault: {others}{clip}"
    )


def scales(settings: Section, key: str) -> dict[str, float]:
    """The numbers above 0 in a section of params.yaml that stands under `key`, for `require_finite`."""
    return {
        f"{key}.{name}": float(value)
        for name, value in settings
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    }


def _is_sound(values: Tensor) -> bool:
    return bool((values.abs() <= LARGEST_WEIGHT).all())
