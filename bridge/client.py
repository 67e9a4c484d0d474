"""One stage of a pipeline that another process keeps: `python -m bridge.client STAGE`.

Does what `dvc repro --single-item STAGE` would, without loading DVC, and ends when its keeper does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import Any

from bridge.command import Command
from bridge.mailbox import Conversation
from bridge.plan import Job

ADDRESS = Path(".dvc/tmp/bridge.json")
"""Where the keeper listens, and the word that it wants to hear; readable by its user alone."""

WORKER = "BRIDGE_WORKER"
"""Environment variable that holds the address of a warm worker on the machine of the client, if there is one."""


class Local:
    """A conversation with a keeper on this machine, which hears at once when a client ends."""

    def __init__(self, address: str, secret: str) -> None:
        self._connection: Connection = Client(address, authkey=secret.encode())

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The keeper's answer. Raises EOFError where it has ended."""
        self._connection.send_bytes(json.dumps(request).encode())
        answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        return answer

    def wait(self, ear: int) -> bool:
        """Wait until the descriptor `ear` says something, True, or the keeper has ended, False."""
        return ear in wait([ear, self._connection])  # the keeper says nothing unasked: its end was closed

    def close(self) -> None:
        self._connection.close()


def main(name: str) -> int:
    """The exit status: of the command, or 1 with a line that says why. Raises OSError and EOFError without a keeper."""
    told = json.loads(ADDRESS.read_text())
    keeper = Conversation(told["folder"]) if "folder" in told else Local(told["address"], told["secret"])
    try:
        return _stage(name, keeper, os.environ.get(WORKER, told["worker"]), told["modules"])
    finally:
        keeper.close()


def _stage(name: str, keeper: Conversation | Local, worker: str | None, modules: str) -> int:
    answer = keeper.ask({"do": "begin", "stage": name})
    if "error" in answer:
        return _fail(f"{name}: {answer['error']}")
    if answer["found"] != "run":
        print(f"{name}: " + ("up to date" if answer["found"] == "done" else "restored from the cache"), flush=True)
        return 0
    job = Job(**answer["job"])
    print("\n".join(f"> {line}" for line in job.command), flush=True)
    status = _watched(Command(job, str(Path.cwd()), os.environ, worker, modules), keeper)
    if status is None:
        return _fail(f"{name}: ended with the engine that had started it")
    if status:
        return status if status > 0 else _fail(f"{name}: ended by signal {-status}")
    answer = keeper.ask({"do": "end", "stage": name})
    return _fail(f"{name}: {answer['error']}") if "error" in answer else 0


def _watched(command: Command, keeper: Conversation | Local) -> int | None:
    """The status of the command; None where the keeper went away before."""
    ended: list[int] = []
    ear, voice = os.pipe()

    def run() -> None:
        ended.append(command.run())
        os.close(voice)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not keeper.wait(ear):
        command.kill()
        thread.join()
        return None
    thread.join()
    return ended[0]


def _fail(line: str) -> int:
    print(line, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[-1]))
    except (OSError, EOFError, AuthenticationError):
        sys.exit(_fail(f"{sys.argv[-1]}: no engine keeps this pipeline; allowed: a job of a running one"))
    except KeyboardInterrupt:
        sys.exit(130)
