"""Learning rates of the architecture components (method: section 5)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.settings import Positive, Section
from tailnas.imbalance.mixing import check_unit, cosine, mixing_ratio


class NamedRate(Section):
    """A learning rate that follows a schedule."""

    schedule: Literal["constant", "mixing", "cosine", "linear", "balance"] = Field(
        description="constant 1, mixing mu (a reading), cosine, linear 1 - t, balance 2 min(mu, 1 - mu)."
    )


class PolynomialRate(Section):
    """A learning rate that falls as (1 - t)^power."""

    schedule: Literal["polynomial"]
    power: Positive = Field(description="Exponent of (1 - t)^power.")


BackboneRate = Annotated[NamedRate | PolynomialRate, Field(discriminator="schedule")]
CONSTANT = NamedRate(schedule="constant")

HEAD_SCHEDULES = ("constant", "mixing")
BACKBONE_SCHEDULES = ("constant", "mixing", "cosine", "linear", "polynomial", "balance")


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
    check_unit("t", t)
    if isinstance(mixing, str):
        mu = mixing_ratio(mixing, t, m=m)
    else:
        check_unit("mixing", mixing)
        mu = float(mixing)
    backbones = {
        "constant": 1.0,
        "mixing": mu,
        "cosine": cosine(t),
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
