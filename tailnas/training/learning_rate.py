"""Learning rate of the weights over training: constant within an epoch, a function of the part that is over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailnas.training.settings import Schedule, Training, WarmUp


def epoch_learning_rate(training: Training, epoch: int) -> float:
    """SGD's learning rate in `epoch`, which counts from 0, of `training.epochs`."""
    rate = scheduled(training.schedule, epoch / training.epochs, training.learning_rate)
    if training.warmup is not None:
        rate *= warm_up_factor(training.warmup, epoch, training.epochs)
    return rate


def scheduled(schedule: Schedule, progress: float, start: float) -> float:
    """The rate at `progress` in [0, 1) of a training that starts with `start`.

    cosine: half a cosine from `start` to `minimum` (DARTS, 1806.09055, section 3.1). steps: `factor` times as much from
    each moment of `at` on (LDAM-DRW, 1906.07413, section 4; BBN, 1912.02413, section 5.1).
    """
    if schedule.name == "cosine":
        return cosine_learning_rate(progress, start, schedule.minimum)
    return start * schedule.factor ** sum(progress >= moment for moment in schedule.at)


def cosine_learning_rate(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at progress 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def warm_up_factor(warmup: WarmUp, epoch: int, epochs: int) -> float:
    """What the rate is multiplied by in `epoch` (from 0): linear in epoch + 1, 1 from the last epoch of warm-up on."""
    done = min(1.0, (epoch + 1) / (warmup.part * epochs))
    return warmup.start + (1 - warmup.start) * done
