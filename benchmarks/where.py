"""Where the time of one step goes: seconds in each operation itself, callees left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

SHOWN = 15


def time_by_operation(step: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """{"operation", "seconds", "calls"} of one run of `step`, the longest first; on a GPU, seconds of the GPU."""
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    step()
    with profile(activities=activities) as profiler:
        step()
        if gpu:
            torch.cuda.synchronize()
    rows = [
        {
            "operation": event.key,
            "seconds": (event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6,
            "calls": event.count,
        }
        for event in profiler.key_averages()
    ]
    return sorted(rows, key=lambda row: row["seconds"], reverse=True)


def table(rows: list[dict[str, Any]]) -> str:
    """The longest `SHOWN` and the rest, as plain text."""
    total = sum(row["seconds"] for row in rows)
    rest = rows[SHOWN:]
    others = {"operation": f"{len(rest)} others"}
    others |= {column: sum(row[column] for row in rest) for column in ("seconds", "calls")}
    lines = [f"{'operation':44} {'seconds':>8} {'share':>6} {'calls':>7}"]
    lines += [
        f"{row['operation'][:44]:44} {row['seconds']:>8.3f} {row['seconds'] / total:>6.1%} {row['calls']:>7,}"
        for row in (*rows[:SHOWN], others)
    ]
    return "\n".join(lines)
