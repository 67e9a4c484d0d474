"""At most one stage per card, each sees its own, however the cards are told. No card is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOLDS = (
    "import os, time; a = time.time(); time.sleep(0.15); print(os.environ.get('CUDA_VISIBLE_DEVICES'), a, time.time())"
)
FOUR = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]


def overlaps(spans):
    return any(second[0] < first[1] for first, second in pairwise(sorted(spans)))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, FOUR),
        ({"CUDA_VISIBLE_DEVICES": "2, 0"}, ["2", "0"]),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2", "SLURM_JOB_ID": "7"}, ["0", "1", "2"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, [""]),
        ({"SLURM_JOB_ID": "7"}, ["None"]),
    ],
    ids=["driver", "listed", "listed by Slurm", "none", "Slurm divides"],
)
def test_jobs_share_no_card(tmp_path, told, expected):
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(f"#!/bin/sh\nprintf '%s\\n' {' '.join(FOUR)}\n")
    driver.chmod(0o755)
    schedulers = ("CUDA_", "SLURM_", "PBS_", "LSB_", "JOB_ID")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(schedulers)}
    environment = {**kept, "PATH": f"{driver.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **told}
    command = [sys.executable, "-m", "workflow.card", sys.executable, "-c", HOLDS]
    jobs = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2 * len(expected))
    ]
    seen: dict[str, list[tuple[float, float]]] = {}
    for job in jobs:
        card, began, ended = re.fullmatch(r"(.*) (\S+) (\S+)\n", job.communicate(timeout=60)[0]).groups()
        seen.setdefault(card, []).append((float(began), float(ended)))
    assert set(seen) <= set(expected) and sum(map(len, seen.values())) == len(jobs)
    if expected not in ([""], ["None"]):
        assert set(seen) == set(expected) and not any(map(overlaps, seen.values()))
