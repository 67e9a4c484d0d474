"""Colours of the report, told apart by colour-blind readers (Okabe and Ito, 2008; primitives in families)."""

from __future__ import annotations

INK = "#1f2933"
MUTED = "#66717d"
GRID = "#e3e7eb"

RETRAINED = "#7b8794"
ADAPTED = "#d55e00"

PRIMITIVE_COLOURS = {
    "none": "#9aa5b1",
    "skip_connect": "#e0a100",
    "max_pool_3x3": "#8c4a86",
    "avg_pool_3x3": "#cc79a7",
    "sep_conv_3x3": "#56b4e9",
    "sep_conv_5x5": "#0072b2",
    "dil_conv_3x3": "#2bb58f",
    "dil_conv_5x5": "#00674c",
}

COMPONENT_TITLES = {
    "normal": "Normal cell",
    "reduce": "Reduction cell",
    "instance_head": "Instance head",
    "class_head": "Class head",
}
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


def primitive_title(primitive: str) -> str:
    """`sep_conv_3x3` as readers see it: `sep conv 3×3`."""
    return primitive.replace("skip_connect", "skip").replace("_", " ").replace("3x3", "3×3").replace("5x5", "5×5")
