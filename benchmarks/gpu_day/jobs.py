"""The jobs, the most worth knowing first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu_day import checks, gpu_tests, networks, speed, study
from benchmarks.gpu_day.results import Day, Part


@dataclass(frozen=True)
class Job:
    """what: one line. minutes: of one call, at most. parts: what it is made of. headline: its results in one line."""

    name: str
    what: str
    minutes: float
    parts: Callable[[Day], dict[str, Part]]
    headline: Callable[[Mapping[str, Any]], str]


def _all_well(results: Mapping[str, Any]) -> str:
    return f"{len(results)} checks passed"


JOBS = (
    Job("tests", "every test marked gpu", 6, gpu_tests.parts, gpu_tests.headline),
    Job("checks", "recorded steps, rates, mixing ratio, waits, resuming", 5, checks.parts, _all_well),
    Job("speed", "steps against plain DARTS, memory, ceilings, precisions", 9, speed.speed_parts, speed.speed_headline),
    Job("sharing", "how many networks share the card best", 5, networks.sharing_parts, networks.sharing_headline),
    Job("resnet", "ResNet-32 on CIFAR-10-LT, 3 losses x 3 seeds", 9, networks.resnet_parts, networks.resnet_headline),
    Job(
        "search",
        "50 epochs of DARTS at the size of CIFAR-10",
        9,
        speed.whole_search_parts,
        speed.whole_search_headline,
    ),
    Job("precision", "accuracy under tf32 and bf16", 9, speed.precision_parts, speed.precision_headline),
    Job("study", "the search study, every method x 5 seeds", 9, study.parts, study.headline),
)
