"""Colours of cells, told apart by colour-blind readers (Okabe and Ito, 2008; primitives in families)."""

from __future__ import annotations

INK = "#1f2933"
MUTED = "#66717d"
PRINTED = "#18222c"
"""Ink on a coloured ground, which is the same in the light and in the dark."""

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


def primitive_title(primitive: str) -> str:
    """`sep_conv_3x3` as readers see it: `sep conv 3×3`."""
    return primitive.replace("skip_connect", "skip").replace("_", " ").replace("3x3", "3×3").replace("5x5", "5×5")
