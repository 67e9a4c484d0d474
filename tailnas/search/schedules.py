"""Mixing ratio of the two branches, and the learning rates of the architecture components (method: sections 4, 5)."""

from __future__ import annotations

import math
from collections.abc import Callable


def _cosine(t: float) -> float:
    return (1 + math.cos(math.pi * t)) / 2


def _smooth(t: float) -> float:
    return 1 - 2 * t**2 if t < 0.5 else 2 * (1 - t) ** 2


_MIXING: dict[str, Callable[[float, float], float]] = {
    "linear": lambda t, m: 1 - t,
    "parabolic": lambda t, m: 1 - t**2,
    "cosine": lambda t, m: _cosine(t),
    "smooth": lambda t, m: _smooth(t),
    "constant": lambda t, m: m,
    "mirrored": lambda t, m: abs(1 - 2 * t),
}

MIXING_SCHEDULES = tuple(_MIXING)
HEAD_SCHEDULES = ("constant", "mixing")
BACKBONE_SCHEDULES = ("constant", "mixing", "cosine", "linear", "polynomial", "balance")


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
    _check_unit("t", t)
    _check_unit("m", m)
    return min(1.0, max(0.0, _MIXING[schedule](t, m)))


def architecture_learning_rates(
    t: float,
    base_lr: float,
    mixing: str | float,
    heads: str,
    backbone: str,
    *,
    m: float = 0.5,
    power: float = 1.0,
) -> dict[str, float]:
    """Learning rate of each architecture component at t, eta_k(t) = base_lr * h_k(t) (HLS, 2406.07028; a reading).

    t: part of training that is over, in [0, 1]. base_lr: eta_0. mixing: schedule of mu (with `m` for `constant`), or
    mu(t) itself as a number.
    heads: `constant` 1, or `mixing`: mu for the instance head and 1 - mu for the class head.
    backbone: `constant` 1, `mixing` mu, `cosine`, `linear` 1 - t, `polynomial` (1 - t)^power, or `balance`
    2 min(mu, 1 - mu).
    Returns {"backbone", "instance_head", "class_head"}. Raises ValueError for unknown names or numbers out of range.
    """
    _check_unit("t", t)
    if isinstance(mixing, str):
        mu = mixing_ratio(mixing, t, m=m)
    else:
        _check_unit("mixing", mixing)
        mu = float(mixing)
    backbones = {
        "constant": 1.0,
        "mixing": mu,
        "cosine": _cosine(t),
        "linear": 1 - t,
        "polynomial": (1 - t) ** power,
        "balance": 2 * min(mu, 1 - mu),
    }
    if heads not in HEAD_SCHEDULES:
        raise ValueError(f"heads: {heads!r}; allowed: {', '.join(HEAD_SCHEDULES)}")
    if backbone not in backbones:
        raise ValueError(f"backbone: {backbone!r}; allowed: {', '.join(BACKBONE_SCHEDULES)}")
    if not (math.isfinite(base_lr) and base_lr >= 0):
        raise ValueError(f"base_lr: {base_lr}; allowed: a finite number of at least 0")
    if not (math.isfinite(power) and power > 0):
        raise ValueError(f"power: {power}; allowed: a finite number above 0")
    instance, klass = (1.0, 1.0) if heads == "constant" else (mu, 1 - mu)
    return {
        "backbone": base_lr * backbones[backbone],
        "instance_head": base_lr * instance,
        "class_head": base_lr * klass,
    }


def epoch_time(epoch: int, epochs: int, at: str) -> float:
    """t of an epoch (from 0): `midpoint` (epoch + 1/2)/epochs, or `start` epoch/epochs as BBN counts."""
    return (epoch + (0.5 if at == "midpoint" else 0.0)) / epochs


def _check_unit(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: {value}; allowed: 0 to 1")
