"""One case, both sides in turn."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.cases import Case
from benchmarks.sides import SIDES
from benchmarks.worker import Worker

SHORTEST_TURN = 5.0
"""Seconds that one side runs, about, before it is the other's turn: its first step finds the caches cold."""


def compare(
    case: Case, device: str, threads: int, precision: str, seconds: float, count: bool = True
) -> dict[str, Any]:
    """Times both sides in turns for about `seconds` (at least two turns each), then memory, then counts.

    Where the case has heads, tailnas's DARTS of the same depth and as many images takes part, as `darts_deep`.
    """
    sides = {side: (side, case) for side in SIDES}
    if case.step == "bbn_hls":
        sides["darts_deep"] = ("tailnas", replace(case, step="darts_deep"))
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(side, its_case, device, threads, precision))
            for name, (side, its_case) in sides.items()
        }
        for worker in workers.values():
            worker.ready()
        times: dict[str, list[float]] = {name: worker.seconds(1) for name, worker in workers.items()}
        turns = {
            name: max(1, round(min(SHORTEST_TURN, seconds) / max(first[0], 1e-4))) for name, first in times.items()
        }
        deadline = time.monotonic() + seconds
        turn = 0
        while turn < 2 or time.monotonic() < deadline:
            for name, worker in workers.items():
                times[name] += worker.seconds(turns[name])
            turn += 1
        results = {
            name: {
                "seconds": times[name][1:],
                "seconds_min": min(times[name][1:]),
                "seconds_median": median(times[name][1:]),
                "images_per_second": case.images_per_step / median(times[name][1:]),
                **worker.memory(),
                **(worker.counts() if count else {}),
            }
            for name, worker in workers.items()
        }
    return {"case": case.as_dict(), **results, "ratio": ratios(results)}


def ratios(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Plain over tailnas for time and operations, tailnas over plain for memory, BBN-HLS over DARTS of equal depth."""
    plain, tailnas = results["plain"], results["tailnas"]
    found = {
        "speed_min": plain["seconds_min"] / tailnas["seconds_min"],
        "speed_median": plain["seconds_median"] / tailnas["seconds_median"],
        "memory": tailnas["peak_memory"] / plain["peak_memory"],
        "memory_above_baseline": (tailnas["peak_memory"] - tailnas["baseline_memory"])
        / (plain["peak_memory"] - plain["baseline_memory"]),
    }
    if "operations" in plain:
        found["operations"] = plain["operations"] / tailnas["operations"]
    if "darts_deep" in results:
        found["bbn_hls_over_darts"] = tailnas["seconds_median"] / results["darts_deep"]["seconds_median"]
    return found
