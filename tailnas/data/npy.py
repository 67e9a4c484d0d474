"""Arrays in .npy files, read without trusting them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailnas.foundation.errors import UserError


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """Write `array` in C order; nothing is ever pickled."""
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_npy(path: Path, dtype: np.dtype[Any], shape: tuple[int | None, ...], *, mapped: bool = False) -> NDArray[Any]:
    """Read an array of one dtype and shape (None: any size from 1), in memory and C order.

    mapped: leave it in the file, from which what is used is read; what is written to it stays in memory. Raises
    UserError naming the file, what it holds and what is allowed. A header that promises more than the file holds is
    refused before memory is taken.
    """
    try:
        found = np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: a .npy array") from None
    except Exception as error:  # damaged headers raise nearly anything, from EOFError to tokenize.TokenError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); allowed: a whole .npy array") from None
    fits = found.ndim == len(shape) and all(
        (size >= 1) if wanted is None else (size == wanted) for size, wanted in zip(found.shape, shape, strict=False)
    )
    if found.dtype != dtype or not fits:
        wanted = ", ".join("N" if size is None else str(size) for size in shape)
        raise UserError(f"{path}: {found.dtype} {found.shape}; allowed: {dtype} ({wanted}{',' * (len(shape) == 1)})")
    return found if mapped and found.flags.c_contiguous else np.array(found, order="C")
