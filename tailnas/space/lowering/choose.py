"""Which lowering computes the search network. New ones are entered here."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tailnas.space.cell import SearchCell
from tailnas.space.lowering.folded import FoldedLowering
from tailnas.space.lowering.leaving import Small
from tailnas.space.lowering.plain import PlainLowering
from tailnas.space.lowering.wide import WideLowering


class Lowering(Protocol):
    """How the parts of a search network are computed. The state between cells is the lowering's own."""

    def stem(self, stem: nn.Sequential, images: Tensor) -> Any:
        """State of the stem's output for images (N, C, H, W)."""

    def cell(self, cell: SearchCell, older: Any, newer: Any, weights: Tensor) -> Any:
        """State of a cell's output under mixture weights (14, 8)."""

    def pooled(self, state: Any) -> Tensor:
        """Mean over the map, (N, C)."""


LOWERINGS: dict[str, Callable[[], Lowering]] = {
    "plain": PlainLowering,
    "folded": partial(FoldedLowering, small=Small(0, 0)),
    "grouped": partial(FoldedLowering, small=Small(sys.maxsize, sys.maxsize)),
    "by_size": FoldedLowering,
    "wide": WideLowering,
}
AUTOMATIC = "auto"


class LoweringChoice:
    """A network's lowering: one by name, or with "auto" the fastest for device and mode."""

    def __init__(self, name: str) -> None:
        if name != AUTOMATIC and name not in LOWERINGS:
            raise ValueError(f"lowering is {name!r}; allowed are {', '.join([AUTOMATIC, *LOWERINGS])}")
        self.name = name
        self._made: dict[str, Lowering] = {}

    def __call__(self, device: torch.device, *, training: bool) -> Lowering:
        if not training:
            return PlainLowering(channels_last=self.name != "plain" and device.type == "cpu")
        name = self.name
        if name == AUTOMATIC:
            name = "by_size" if device.type == "cpu" else "wide"
        if name not in self._made:
            self._made[name] = LOWERINGS[name]()
        return self._made[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> "LoweringChoice":
        return LoweringChoice(self.name)
