"""Which backend computes the search network. New ones are entered here."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tailnas.space.backends.cpu.backend import CpuBackend, SideBySideLimits
from tailnas.space.backends.gpu import GpuBackend
from tailnas.space.backends.plain import PlainBackend
from tailnas.space.cell import SearchCell


class Backend(Protocol):
    """How the parts of a search network are computed. What it hands from cell to cell is its own affair."""

    def stem(self, stem: nn.Sequential, images: Tensor) -> Any:
        """The stem's output for images (N, C, H, W)."""

    def cell(self, cell: SearchCell, older: Any, newer: Any, mixture: Tensor) -> Any:
        """A cell's output from those of the two cells before it, under mixture weights (14, 8)."""

    def pooled(self, output: Any) -> Tensor:
        """Mean over the map, (N, C)."""


BACKENDS: dict[str, Callable[[], Backend]] = {
    "plain": PlainBackend,
    "gpu": GpuBackend,
    "cpu": CpuBackend,
    "cpu_by_edge": partial(CpuBackend, SideBySideLimits(0, 0)),
    "cpu_side_by_side": partial(CpuBackend, SideBySideLimits(sys.maxsize, sys.maxsize)),
}
AUTOMATIC = "auto"


class BackendChoice:
    """A network's backend: one by name, or with "auto" the fastest for device and mode.

    In evaluation mode every network is computed by its definition.
    """

    def __init__(self, name: str) -> None:
        if name != AUTOMATIC and name not in BACKENDS:
            raise ValueError(f"backend: {name!r}; allowed: {', '.join([AUTOMATIC, *BACKENDS])}")
        self.name = name
        self._made: dict[str, Backend] = {}

    def __call__(self, device: torch.device, *, training: bool) -> Backend:
        if not training:
            return PlainBackend(channels_last=self.name != "plain" and device.type == "cpu")
        name = self.name
        if name == AUTOMATIC:
            name = "cpu" if device.type == "cpu" else "gpu"
        if name not in self._made:
            self._made[name] = BACKENDS[name]()
        return self._made[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> "BackendChoice":
        return BackendChoice(self.name)
