"""Run a command with a GPU of its own: `python -m workflow.card COMMAND ...`.

It waits for a card that no other job of this folder holds and sees that one alone. The kernel frees a card with the
process that holds it. The cards are those that CUDA_VISIBLE_DEVICES lists, or else all that the driver shows; where
there is none, or a cluster's scheduler has chosen, the command simply runs.
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
CHOSEN_BY = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Set where a cluster's scheduler has started this process, on a machine whose cards it divides."""


def cards(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Identifiers of the cards to divide, [] where there are none or others divide them."""
    if any(name in environment for name in CHOSEN_BY):
        return []
    if (listed := environment.get(VISIBLE)) is not None:
        return [card for word in listed.split(",") if (card := word.strip()) and card != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    shown = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return shown.stdout.split() if shown.returncode == 0 else []


def try_to_take(identifiers: list[str]) -> tuple[str, int] | None:
    """A free card and the file descriptor that holds it, if there is one."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    for identifier in identifiers:
        descriptor = os.open(LOCKS / identifier.replace("/", "-"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
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
