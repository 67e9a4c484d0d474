"""What a process ran on, and how much memory it took."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path


def peak_memory() -> dict[str, int]:
    """MiB that this process has had at most: `memory_mib`, and of a card's memory, where it used one, `card_mib`."""
    unit = 1024 if sys.platform == "linux" else 1024**2
    peak = {"memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak["card_mib"] = torch.cuda.max_memory_allocated() // 1024**2
    return peak


def memory() -> int:
    """Bytes of memory that this process may have: of the machine, or less where a limit or a container says so."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    found += [
        limit for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA) if (limit := resource.getrlimit(kind)[0]) > 0
    ]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path("/sys/fs/cgroup", file).read_text()))
        except (OSError, ValueError):  # no container, or one without a limit
            continue
    return min(found)


def hardware() -> dict[str, str]:
    """`processor`, by its name where the system tells it, and `card` where this process used one."""
    torch = sys.modules.get("torch")
    card = {"card": torch.cuda.get_device_name()} if torch is not None and torch.cuda.is_initialized() else {}
    return {"processor": _processor(), **card}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
