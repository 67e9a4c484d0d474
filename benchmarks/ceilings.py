"""What the machine can do at best: FLOP/s of a large matrix product, bytes/s of a large copy, both measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

REPEATS = 10


def ceilings(device: torch.device, precision: str) -> dict[str, float]:
    """{"flops_per_second", "bytes_per_second"}, the best of ten tries each; a copy reads and writes."""
    large = device.type == "cuda"
    side, elements = (8192, 2**28) if large else (2048, 2**25)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.randn(elements, device=device)
    target = torch.empty_like(source)
    return {
        "flops_per_second": 2 * side**3 / fastest(lambda: torch.mm(left, right, out=product), device),
        "bytes_per_second": 2 * elements * 4 / fastest(lambda: target.copy_(source), device),
    }


def fastest(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of `REPEATS` runs, after one that is not counted."""
    run()
    times = []
    for _ in range(REPEATS):
        if device.type == "cuda":
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            run()
            after.record()
            torch.cuda.synchronize()
            times.append(before.elapsed_time(after) / 1e3)
        else:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return min(times)
