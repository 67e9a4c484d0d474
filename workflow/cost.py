"""What a study will take before anything of it was computed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache

TRAINED = {"pretrain", "search", "retrain"}
"""Kinds of stages that take most of the time."""


def known_seconds(kinds: Collection[str], earlier: Mapping[str, float]) -> dict[str, float]:
    """Mean seconds of each kind of stage: as noted `earlier` in this folder, and where nothing was noted of a kind of
    training among `kinds`, by timed steps.
    """
    if TRAINED & set(kinds) <= set(earlier):
        return dict(earlier)
    return {**_timed(), **earlier}


@cache
def _timed() -> dict[str, float]:
    """What `workflow.timed_step` finds, in a process of its own, which loads torch; where it fails, nothing."""
    print("timing a few steps of each training", file=sys.stderr, flush=True)
    found = subprocess.run([sys.executable, "-m", "workflow.timed_step"], capture_output=True, text=True, check=False)
    try:
        return {name: float(seconds) for name, seconds in json.loads(found.stdout).items()}
    except ValueError:
        why = (found.stderr.strip().splitlines() or [f"exit status {found.returncode}"])[-1]
        print(f"no estimate: {why}", file=sys.stderr, flush=True)
        return {}
