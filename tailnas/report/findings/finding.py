"""The parts that the plain-language section is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tailnas.report.runs import Run


@dataclass(frozen=True)
class Finding:
    """One paragraph: `shown` is what the numbers support, `open` what they do not, `warning` what went wrong."""

    kind: Literal["shown", "open", "warning", "note"]
    text: str


@dataclass(frozen=True)
class Chapter:
    """Findings under one heading."""

    title: str
    findings: list[Finding]


def percent(value: float) -> str:
    """`0.1234` as `12.3 %`."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of fractions in percentage points, with its sign: `+1.2`."""
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def p_text(value: float) -> str:
    """A p value with three decimals, or `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def few_shot_images(run: Run) -> int:
    """Test images of the few-shot classes, at least 1."""
    return max(1, int(run.confusion["adapted"][np.asarray(run.groups.few, dtype=int)].sum()))
