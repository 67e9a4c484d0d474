"""Mixing ratio of the two branches over an epoch's time (method: section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable

from tailnas.imbalance.settings import ConstantRatio, MovingRatio


def cosine(t: float) -> float:
    """Half a cosine wave from 1 at t = 0 to 0 at t = 1."""
    return (1 + math.cos(math.pi * t)) / 2


def _smooth(t: float) -> float:
    return 1 - 2 * t**2 if t < 0.5 else 2 * (1 - t) ** 2


_MIXING: dict[str, Callable[[float, float], float]] = {
    "linear": lambda t, m: 1 - t,
    "parabolic": lambda t, m: 1 - t**2,
    "cosine": lambda t, m: cosine(t),
    "smooth": lambda t, m: _smooth(t),
    "constant": lambda t, m: m,
    "mirrored": lambda t, m: abs(1 - 2 * t),
}

MIXING_SCHEDULES = tuple(_MIXING)


def mixing_ratio(schedule: str, t: float, *, m: float = 0.5) -> float:
    """Weight mu(t) of the instance branch, in [0, 1]; the class branch weighs 1 - mu.

    schedule: `parabolic` is BBN's own (1912.02413, section 3.3). `linear`, `cosine` and `smooth` satisfy
    mu(t) + mu(1 - t) = 1, our reading of the symmetric scheme that HLS (2406.07028) asks for. `constant` is `m`;
    `mirrored` is |1 - 2t|.
    t: part of training that is over, in [0, 1]. m: value of `constant`, in [0, 1].
    Raises ValueError for an unknown schedule or a number out of range.
    """
    if schedule not in _MIXING:
        raise ValueError(f"schedule: {schedule!r}; allowed: {', '.join(_MIXING)}")
    check_unit("t", t)
    check_unit("m", m)
    return min(1.0, max(0.0, _MIXING[schedule](t, m)))


def epoch_time(epoch: int, epochs: int, at: str) -> float:
    """t of an epoch (from 0): `midpoint` (epoch + 1/2)/epochs, or `start` epoch/epochs as BBN counts."""
    return (epoch + (0.5 if at == "midpoint" else 0.0)) / epochs


def epoch_ratio(settings: MovingRatio | ConstantRatio, epoch: int, epochs: int) -> float:
    """mu of an epoch (from 0)."""
    m = settings.ratio if isinstance(settings, ConstantRatio) else 0.5
    return mixing_ratio(settings.schedule, epoch_time(epoch, epochs, settings.time), m=m)


def check_unit(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: {value}; allowed: 0 to 1")
