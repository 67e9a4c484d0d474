"""Colours of the report, told apart by colour-blind readers (Okabe and Ito, 2008)."""

from __future__ import annotations

GRID = "#e3e7eb"

RETRAINED = "#7b8794"
ADAPTED = "#d55e00"

COMPONENT_COLOURS = {
    "normal": "#1f2933",
    "reduce": "#8795a1",
    "instance_head": "#7b3294",
    "class_head": "#b35806",
}

Dashes = str | tuple[float, tuple[float, ...]]

_METHOD_CYCLE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#000000")
_DASHES: tuple[Dashes, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))


def method_style(position: int) -> tuple[str, Dashes]:
    """Colour and line style of the method at `position` in the study; 24 of them differ."""
    return _METHOD_CYCLE[position % len(_METHOD_CYCLE)], _DASHES[position // len(_METHOD_CYCLE) % len(_DASHES)]
