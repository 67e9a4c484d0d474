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
from bridge.plan import Job

ADDRESS = Path(".dvc/tmp/bridge.json")
"""Where the keeper listens, and the word that it wants to hear; readable by its user alone."""


def ask(connection: Connection, do: str, name: str) -> dict[str, Any]:
    """The keeper's answer."""
    connection.send_bytes(json.dumps({"do": do, "stage": name}).encode())
    answer: dict[str, Any] = json.loads(connection.recv_bytes())
    return answer


def main(name: str) -> int:
    """The exit status: of the command, or 1 with a line that says why. Raises OSError and EOFError without a keeper."""
    told = json.loads(ADDRESS.read_text())
    address = tuple(told["address"]) if isinstance(told["address"], list) else told["address"]
    connection = Client(address, authkey=told["secret"].encode())
    answer = ask(connection, "begin", name)
    if "error" in answer:
        return _fail(f"{name}: {answer['error']}")
    if answer["found"] != "run":
        print(f"{name}: " + ("up to date" if answer["found"] == "done" else "restored from the cache"), flush=True)
        return 0
    job = Job(**answer["job"])
    print("\n".join(f"> {line}" for line in job.command), flush=True)
    worker = told["worker"] if told["host"] == os.uname().nodename else None
    status = _watched(Command(job, str(Path.cwd()), os.environ, worker, told["modules"]), connection)
    if status is None:
        return _fail(f"{name}: ended with the engine that had started it")
    if status:
        return status if status > 0 else _fail(f"{name}: ended by signal {-status}")
    answer = ask(connection, "end", name)
    return _fail(f"{name}: {answer['error']}") if "error" in answer else 0


def _watched(command: Command, connection: Connection) -> int | None:
    """The status of the command; None where the keeper went away before."""
    ended: list[int] = []
    ear, voice = os.pipe()

    def run() -> None:
        ended.append(command.run())
        os.close(voice)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if ear not in wait([ear, connection]):  # the keeper says nothing unasked: its end was closed
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
