"""A stage's command, run as DVC runs it, in a worker where that is possible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from bridge.plan import Job
from bridge.worker import Running, module_command


class Command:
    """The lines of one stage's command, one after the other, until one fails or `kill` is called."""

    def __init__(self, job: Job, root: str, environment: Mapping[str, str], worker: str | None, modules: str) -> None:
        """root: the pipeline's folder. worker: address of one, if any; it runs modules that begin with `modules`."""
        self.job = job
        self._folder = str(Path(root, job.folder))
        self._environment = {**environment, "DVC_STAGE": job.name}
        self._environment.setdefault("DVC_ROOT", root)
        self._worker = worker
        self._modules = modules
        self._guard = threading.Lock()
        self._killed = False
        self._running: Running | subprocess.Popen[bytes] | None = None

    def run(self, out: IO[bytes] | None = None) -> int:
        """The exit status: of the line that failed, negative for a signal, or 0. out: where both streams go."""
        for line in self.job.command:
            if status := self._line(line, out):
                return status
        return 0

    def _line(self, line: str, out: IO[bytes] | None) -> int:
        words = module_command(line) if self._worker else None
        with self._guard:
            if self._killed:
                return -signal.SIGKILL
            self._running = self._warm(words, out) if words and words[0].startswith(self._modules) else None
            if self._running is None:
                shell = os.environ.get("SHELL") or "/bin/sh"
                plain = ["--noprofile", "--norc"] if Path(shell).name == "bash" else []
                self._running = subprocess.Popen(
                    [shell, *plain, "-c", line],
                    cwd=self._folder,
                    env=self._environment,
                    stdout=out,
                    stderr=subprocess.STDOUT if out else None,
                )
        try:
            return self._running.wait()
        except ConnectionError:
            return -signal.SIGKILL

    def _warm(self, words: list[str], out: IO[bytes] | None) -> Running | None:
        """The command in the worker; None where there is none any more."""
        streams = (0, out.fileno(), out.fileno()) if out else (0, 1, 2)
        try:
            return Running(str(self._worker), words, self._folder, self._environment, streams)
        except OSError:
            return None

    def kill(self) -> None:
        """End what runs, and all that it has started."""
        with self._guard:
            self._killed = True
            if isinstance(self._running, Running):
                self._running.kill()
            elif self._running and self._running.poll() is None:
                _kill_tree(self._running.pid)


def _kill_tree(pid: int) -> None:
    import psutil

    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.kill()
        except psutil.Error as error:
            print(error, file=sys.stderr)
