"""A process that has imported what stages import, and forks for each: Python and its libraries start once.

`Worker(modules)` starts it; `Running` gives it a command `python -m MODULE ARGUMENTS`. The child begins where a fresh
Python would, with `MODULE` as `__main__`; each stage runs the code as it then is, and no thread and no device has been
started. With its starter the worker ends, and with it its children. What it does is in bridge/forks.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from bridge.forks import ROOT, TITLE


class Worker:
    """The started process and the address at which it takes requests."""

    def __init__(
        self,
        modules: Iterable[str],
        environment: Mapping[str, str] | None = None,
        packages: Iterable[str] = (),
    ) -> None:
        """modules: what to import before the first fork. A module that is not there is left out.

        packages: the pipeline's own code, as folders. What a module there imports is imported once for all its forks,
        and anew when a file of theirs is another, so importing may read nothing else that changes.
        """
        self._folder = tempfile.mkdtemp(prefix="worker-")
        self.address = f"{self._folder}/socket"
        paths = [str(ROOT), os.environ.get("PYTHONPATH")]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(1024)
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "bridge.forks", str(listener.fileno())),
                    *(",".join(modules), ",".join(packages), "." * TITLE),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        assert self._process.stdin
        self._alive = self._process.stdin

    def close(self) -> None:
        """End the worker and whatever it runs."""
        self._alive.close()
        self._process.terminate()  # which counts only while it imports
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def module_command(line: str) -> list[str] | None:
    """[MODULE, ARGUMENTS...] of a shell line that is `python -m MODULE ARGUMENTS` and nothing more; else None."""
    if any(character in line for character in "$`|&;<>(){}[]*?!~#\\\n\r\"'="):
        return None
    words = shlex.split(line)
    if words[:2] != ["python", "-m"] or len(words) < 3:
        return None
    found = shutil.which("python")
    same = found is not None and Path(found).parent.samefile(Path(sys.executable).parent)
    return words[2:] if same else None


class Running:
    """A command at work in a child of a worker."""

    def __init__(
        self, address: str, words: list[str], folder: str, environment: Mapping[str, str], streams: tuple[int, int, int]
    ) -> None:
        """Have the worker at `address` fork. streams: descriptors of standard input, output and error.

        Raises OSError where no worker is at the address; one that is starting is waited for.
        """
        self._worker = address
        self._request = {"words": words, "folder": folder, "environment": dict(environment)}
        self._streams = list(streams)
        self._killed = False
        self._ask(address, direct=False)

    def _ask(self, address: str, *, direct: bool) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        request = json.dumps({**self._request, "direct": direct}).encode()
        socket.send_fds(self._socket, [len(request).to_bytes(8, "big")], self._streams)
        self._socket.sendall(request)

    def wait(self) -> int:
        """The exit status, negative for a signal. Raises ConnectionError where the worker has ended."""
        answer = self._answer()
        if answer.startswith("/"):  # the worker knows of a template
            answer = self._asked(answer, direct=False)
            if not answer and not self._killed:  # which has retired, and begun nothing
                answer = self._asked(self._worker, direct=True)
        if not answer.removeprefix("+"):
            raise ConnectionError("the worker has ended")
        return int(answer.removeprefix("+"))

    def _asked(self, address: str, *, direct: bool) -> str:
        try:
            self._ask(address, direct=direct)
        except OSError:
            return ""
        return self._answer()

    def _answer(self) -> str:
        """A line: an address, or + when the command begins and then its status. What there is of it, where it ends."""
        answer = b""
        with self._socket, contextlib.suppress(OSError):
            while not self._killed and not answer.endswith(b"\n") and (part := self._socket.recv(4096)):
                answer += part
        return answer.decode().strip()

    def kill(self) -> None:
        """Have the child killed: the worker does so when nobody waits for it any more."""
        self._killed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
