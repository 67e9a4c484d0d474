"""Run a command with a GPU of its own: `python -m workflow.card COMMAND ...`.

Where a scheduler has chosen the card already, or there is none, the command simply runs. Otherwise it waits for a card
that no other job of this folder holds and sees that one alone. The kernel frees a card with the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

LOCKS = Path(".tailnas/cards")


def cards() -> list[str]:
    """Identifiers of the cards that the driver shows, [] without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    shown = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return shown.stdout.split() if shown.returncode == 0 else []


def take(identifiers: list[str]) -> tuple[str, int]:
    """Wait for a free card; returns it and the file descriptor that holds it."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    while True:
        for identifier in identifiers:
            descriptor = os.open(LOCKS / identifier, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return identifier, descriptor
            except BlockingIOError:
                os.close(descriptor)
        time.sleep(0.5)


def main(command: list[str]) -> None:
    if "CUDA_VISIBLE_DEVICES" not in os.environ and (identifiers := cards()):
        identifier, descriptor = take(identifiers)
        os.environ["CUDA_VISIBLE_DEVICES"] = identifier
        os.set_inheritable(descriptor, True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
