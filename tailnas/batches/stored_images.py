"""Images that do not fit the device: rows of a memory-mapped array, read as batches ask for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE = 0.25
"""Of the free memory that images may take: halves and padded copies of them lie beside each other."""


@dataclass(frozen=True)
class StoredImages:
    """What batches need of a uint8 tensor (N, C, H, W), without holding one: `array[rows]`, row by row.

    array: uint8 (M, C, H, W) in a file; rows: int64 (N,).
    """

    array: NDArray[np.uint8]
    rows: NDArray[np.int64]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.array.shape[1:]))

    def index_select(self, dim: int, indices: Tensor) -> Tensor:
        """The images `indices` (B,), on the CPU. dim: 0."""
        if dim != 0:
            raise ValueError(f"dim: {dim}; allowed: 0")
        return torch.from_numpy(self.array[self.rows[indices.cpu().numpy()]])

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in order, `size` at a time, on the CPU."""
        for start in range(0, len(self.rows), size):
            yield torch.from_numpy(self.array[self.rows[start : start + size]])


def room_for_images(device: torch.device) -> int:
    """Bytes that images may take on `device`: SHARE of what is free there, on a CPU within its control group."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    free = [_available(Path("/proc/meminfo"))]
    group = Path("/sys/fs/cgroup")
    limit, used = (_number(group / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free.append(max(0, limit - used))
    return int(SHARE * min(free))


def _available(meminfo: Path) -> int:
    """Bytes that can be had without swapping; half of all where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
