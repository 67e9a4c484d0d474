"""Images as they are decoded, one after the other: in memory, or in a file where they are many."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 2**28
"""Bytes of images up to which they are held in memory."""

BUFFERED = 2**22
"""Bytes that are written at once."""


class Spool:
    """A uint8 array (N, C, H, W) that is filled row by row.

    Above `in_memory` bytes the rows go to a file in the working directory that has no name, so that nothing is left of
    it whatever happens, and the array is mapped from there.
    """

    def __init__(self, shape: tuple[int, int, int, int], in_memory: int = IN_MEMORY) -> None:
        self.shape = shape
        self._row_bytes = math.prod(shape[1:])
        stored = math.prod(shape) > in_memory
        self._file = tempfile.TemporaryFile(dir=Path.cwd()) if stored else None  # noqa: SIM115 (the array keeps it)
        rows = max(1, BUFFERED // self._row_bytes) if stored else shape[0]
        self._buffer = np.empty((rows, *shape[1:]), np.uint8)
        self._filled = 0

    def append(self, image: NDArray[np.uint8]) -> None:
        """The next row; an image (1, H, W) fills all channels."""
        self._buffer[self._filled] = image
        self._filled += 1
        if self._file is not None and self._filled == len(self._buffer):
            self._write()

    def array(self) -> NDArray[np.uint8]:
        """All rows, once there are as many as `shape` says."""
        if self._file is None:
            return self._buffer
        self._write()
        self._file.flush()
        return np.memmap(self._file, np.uint8, "c", shape=self.shape)

    def _write(self) -> None:
        assert self._file is not None
        self._file.write(self._buffer[: self._filled].tobytes())
        self._filled = 0
