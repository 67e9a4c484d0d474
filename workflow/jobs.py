"""The stages of dvc.yaml for Snakemake: what is undone is told by a time stamp that is newer than all outputs."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from bridge.plan import Job

STAMPS = Path(".tailnas/stamps")
VALIDATE = "validate"
"""This stage is no job: it depends on the whole of params.yaml, and every job depends on it."""


def stamp(job: Job) -> str:
    """A file that is newer than all that the job has written, where there is something to do."""
    path = STAMPS / job.name
    if not job.done or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(job.command) + "\n")  # Snakemake goes by content where a file is empty
        # A copy, another file server or a clock that was set back leaves outputs with times to come.
        newest = max((_newest(Path(output)) for output in job.outputs), default=0.0)
        if newest >= path.stat().st_mtime:
            moment = max(newest, time.time()) + 1
            os.utime(path, (moment, moment))
    return str(path)


def _newest(path: Path) -> float:
    files = [path, *(path.rglob("*") if path.is_dir() else ())]
    return max((file.lstat().st_mtime for file in files if file.is_symlink() or file.exists()), default=0.0)


def is_forced(job: Job, rules_and_files: Collection[str]) -> bool:
    """Whether `snakemake -R`, `-f` or the like names the job or one of its outputs."""
    return not {job.rule, *job.outputs}.isdisjoint(rules_and_files)
