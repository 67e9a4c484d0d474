"""What the main Snakemake process does before it plans: one process at a time, valid parameters, no dead locks."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, NoReturn

import psutil
from dvc.exceptions import DvcException, ReproductionError
from dvc.repo import Repo
from dvc.rwlock import _edit_rwlock

from tailnas.foundation.errors import UserError, one_line
from tailnas.foundation.yaml_file import read_yaml
from workflow.jobs import VALIDATE, Job, jobs

PARAMS = Path("params.yaml")
STATE = Path(".tailnas")
STAGE_LOCKS = Path(".dvc/tmp/locks")


def exclusive() -> IO[str]:
    """Wait until no other main process plans or runs in this folder. The kernel frees the lock with the process."""
    try:
        STATE.mkdir(exist_ok=True)
        lock = (STATE / "snakemake.lock").open("w")
    except OSError as error:
        _stop(str(one_line(error)))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another snakemake in this folder", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def plan(*, run: bool) -> tuple[list[Job], int]:
    """The jobs of the pipeline under the present params.yaml, and the threads of each.

    params.yaml is checked first if it or the code changed since DVC recorded that it was valid. run: also wait for jobs
    of an earlier Snakemake, drop the locks of dead processes, and have DVC record the check. A mistake in the
    parameters ends the process with one line and status 1.
    """
    STAGE_LOCKS.mkdir(parents=True, exist_ok=True)
    if run:
        wait_for_orphans()
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo(".", _wait_for_lock=True) as repo:
            if run:
                drop_dead_locks(repo)
                repo.reproduce(VALIDATE, single_item=True)
            elif any(stage.status() for stage in repo.stage.collect(VALIDATE)):
                _check()
            runtime = read_yaml(PARAMS)["runtime"]
            return list(jobs(repo, gpus=runtime["device"] != "cpu")), runtime["threads"]
    except ReproductionError:
        os._exit(1)  # the validate stage has said why
    except (DvcException, UserError) as error:
        _check()  # DVC stumbles over wrong parameters too, but names no key
        _stop(f"dvc: {error}")


def _check() -> None:
    """Ends the process where params.yaml is not valid, which the check says in its own words."""
    if subprocess.run([sys.executable, "-m", "stages.validate", "--check"], check=False).returncode:
        os._exit(1)


def wait_for_orphans() -> None:
    """Wait for the jobs that live on after their Snakemake was killed.

    Snakemake removes a job's outputs before it starts it: a DVC that is just hashing them would record what is left.
    """
    for lock in sorted(STAGE_LOCKS.iterdir()):
        with lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for {lock.name}, which an earlier snakemake left running", file=sys.stderr, flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)


def drop_dead_locks(repo: Repo) -> None:
    """Drop entries of DVC's rwlock whose process is gone, or is now something that never ran in this folder.

    DVC drops the first kind itself, but a process id that lives on as another program would block every run.
    """
    root = Path(repo.root_dir).resolve()
    with _edit_rwlock(repo.tmp_dir, repo.fs, repo.config["core"].get("hardlink_lock", False)) as lock:
        for path, info in list(lock["write"].items()):
            if info and not _runs_here(info["pid"], root):
                del lock["write"][path]
        for path, infos in list(lock["read"].items()):
            lock["read"][path] = [info for info in infos if _runs_here(info["pid"], root)]
            if not lock["read"][path]:
                del lock["read"][path]


def _runs_here(pid: int, root: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return Path(process.cwd()).resolve() == root and any("dvc" in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


def _stop(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    # Snakemake would wrap an exception in a page about the Snakefile, which is not where the mistake is.
    os._exit(1)
