"""Run a command with a GPU of its own: `python -m workflow.card COMMAND ...`.

It waits for a card that no other job of this folder holds and sees that one alone. The kernel frees a card with the
process that holds it. The cards are those that CUDA_VISIBLE_DEVICES lists, or else all that the driver shows; where
there is none, or a cluster's scheduler has listed none, the command simply runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

LOCKS = Path(".tailnas/cards")
VISIBLE = "CUDA_VISIBLE_DEVICES"
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Set to the job's number where a cluster's scheduler has started this process, on a machine whose cards it divides."""


def cards(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Identifiers of the cards to divide, [] where there are none or others divide them."""
    if (listed := environment.get(VISIBLE)) is not None:
        return [card for word in listed.split(",") if (card := word.strip()) and card != "-1"]
    if any(name in environment for name in SCHEDULERS) or shutil.which("nvidia-smi") is None:
        return []
    shown = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return shown.stdout.split() if shown.returncode == 0 else []


def try_to_take(identifiers: list[str]) -> tuple[str, int] | None:
    """A free card and the file descriptor that holds it, if there is one.

    The same number is another card on another machine of a shared folder, and in another job of a scheduler.
    """
    jobs = [os.environ[name] for name in SCHEDULERS if name in os.environ]
    LOCKS.mkdir(parents=True, exist_ok=True)
    for identifier in identifiers:
        name = "-".join([os.uname().nodename, *jobs, identifier]).replace("/", "-")
        descriptor = os.open(LOCKS / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return identifier, descriptor
        except BlockingIOError:
            os.close(descriptor)
    return None


def main(command: list[str]) -> None:
    if identifiers := cards():
        while (taken := try_to_take(identifiers)) is None:
            time.sleep(0.5)
        os.environ[VISIBLE] = taken[0]
        os.set_inheritable(taken[1], True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
