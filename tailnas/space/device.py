"""The device that a stage computes on, and its arithmetic."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch

from tailnas.foundation.errors import UserError


def prepare(device: str, threads: int, precision: str = "float32") -> torch.device:
    """The torch device of `runtime.device`, with `threads` CPU threads and the arithmetic of `precision`.

    float32 is exact float32 on every device; tf32 lets a GPU round the inputs of matrix products and convolutions to 10
    bits of mantissa; bf16 computes those in bfloat16 (see `autocast`). Raises UserError where the device is not there
    or cannot do it.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    chosen = torch.device(name)
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise UserError(f"runtime.device: {device!r} where there are {count} CUDA devices; allowed: auto, cpu")
        torch.cuda.set_device(chosen.index or 0)
    elif precision != "float32":
        raise UserError(f"precision: {precision!r} on a CPU; allowed: float32")
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return chosen


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bfloat16 matrix products and convolutions where `precision` is bf16, else nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let the allocator keep memory that a step frees for the next one, instead of giving it back to the kernel.

    What it buys (Linux with glibc; elsewhere it does nothing): the maps of a forward come and go by the hundred
    megabytes, and by default each step takes a page fault for every 4 KiB of them again: 44,000 in one C16 cell, a
    tenth of the time. Done once per process. Returns whether the allocator took the setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, LARGEST))
