"""The stages of dvc.yaml for Snakemake, which the main process plans and its jobs read from a file.

What is undone is told by a time stamp that is newer than all outputs.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bridge.client import WORKER
from bridge.plan import Job, read_plan
from bridge.worker import Worker

PLAN = Path(".tailnas/plan.json")
STAMPS = Path(".tailnas/stamps")
VALIDATE = "validate"
"""This stage is no job: it depends on the whole of params.yaml, and every job depends on it."""
NEEDS = ("gpu", "mem_mb", "runtime")
"""Words of `meta` in dvc.yaml that say what a stage needs: cards, MB of memory, minutes."""

SCRIPTS = "stages."
PACKAGES = ("stages", "tailnas")
"""The project's own code; a stage is forked from a process that has imported its part of it."""
IMPORTED = (
    "tailnas",  # sets what libraries look at when they are loaded
    "torch",
    "torch._dynamo",
    "tensorboard",
    "torch.utils.tensorboard",
    "pandas",
    "pydantic.fields",
    "pydantic.main",
    "pydantic.type_adapter",
    "pydantic.types",
    "ruamel.yaml",
    "safetensors.torch",
    "sklearn.metrics",
    "torchvision",
)
"""What a worker imports before it forks: libraries, of which no stage's code is a part."""


@dataclass
class Facts:
    """What the Snakefile needs to know beside the jobs. gpus: to divide on this machine; None without a limit."""

    threads: int
    gpus: int | None


def planned() -> tuple[list[Job], Facts]:
    """What the main process has planned; its jobs read it here."""
    jobs, facts = read_plan(PLAN)
    return jobs, Facts(**facts)


def thread_environment(threads: int) -> dict[str, str]:
    """Libraries start as many threads as the stage will use, which they decide when they are loaded."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "GOTO", "VECLIB")
    return {f"{name}_NUM_THREADS": str(threads) for name in names}


def warm_worker(threads: int) -> Worker:
    """A worker for stages of this process and of those below, which ends with it."""
    worker = Worker(IMPORTED, thread_environment(threads), PACKAGES)
    atexit.register(worker.close)
    return worker


def warm_up(jobs: Collection[Job], facts: Facts) -> None:
    """Start a worker in a job on another machine, where it computes several stages."""
    if len(jobs) > 1 and WORKER not in os.environ:
        os.environ[WORKER] = warm_worker(facts.threads).address


def needs(job: Job) -> dict[str, int]:
    """What a stage needs, as Snakemake's resources."""
    return {name: int(job.meta[name]) for name in NEEDS if name in job.meta}


def stamp(job: Job) -> str:
    """A file that is newer than all that the job has written, where there is something to do."""
    return str(STAMPS / job.name)


def write_stamp(job: Job) -> None:
    """Write the stamp of a job that is not done, or has none."""
    path = STAMPS / job.name
    if not job.done or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(job.command) + "\n")  # Snakemake goes by content where a file is empty
        # A copy, another file server or a clock that was set back leaves outputs with times to come.
        newest = max((_newest(Path(output)) for output in job.outputs), default=0.0)
        if newest >= path.stat().st_mtime:
            moment = max(newest, time.time()) + 1
            os.utime(path, (moment, moment))


def _newest(path: Path) -> float:
    files = [path, *(path.rglob("*") if path.is_dir() else ())]
    return max((file.lstat().st_mtime for file in files if file.is_symlink() or file.exists()), default=0.0)


def is_forced(job: Job, rules_and_files: Collection[str]) -> bool:
    """Whether `snakemake -R`, `-f` or the like names the job or one of its outputs."""
    return not {job.rule, *job.outputs}.isdisjoint(rules_and_files)
