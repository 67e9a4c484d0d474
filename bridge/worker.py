"""A process that has imported what stages import, and forks for each: Python and its libraries start once.

`Worker(modules)` starts it; `Running` gives it a command `python -m MODULE ARGUMENTS`. The child begins where a fresh
Python would, with `MODULE` as `__main__`: what the project itself may change is not imported before the fork, so that
each stage runs the code as it then is, and no thread and no device has been started. With its starter the worker ends,
and with it its children.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import operator
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
"""Where this package lies; a stage's own path does not have it."""

TITLE = 4096
"""Bytes of the worker's command line that a child may fill with its own, for `ps` to show."""


class Worker:
    """The started process and the address at which it takes requests."""

    def __init__(self, modules: Iterable[str], environment: Mapping[str, str] | None = None) -> None:
        """modules: what to import before the first fork. A module that is not there is left out."""
        self._folder = tempfile.mkdtemp(prefix="worker-")
        self.address = f"{self._folder}/socket"
        paths = [str(ROOT), os.environ.get("PYTHONPATH")]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(1024)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridge.worker", str(listener.fileno()), ",".join(modules), "." * TITLE],
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
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)
        request = json.dumps({"words": words, "folder": folder, "environment": dict(environment)}).encode()
        socket.send_fds(self.socket, [len(request).to_bytes(8, "big")], list(streams))
        self.socket.sendall(request)

    def wait(self) -> int:
        """The exit status, negative for a signal. Raises ConnectionError where the worker has ended."""
        answer = b""
        while not answer.endswith(b"\n"):
            part = self.socket.recv(64)
            if not part:
                raise ConnectionError("the worker has ended")
            answer += part
        self.socket.close()
        return int(answer)

    def kill(self) -> None:
        """Have the child killed: the worker does so when nobody waits for it any more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


def main(listener: socket.socket, modules: list[str]) -> NoReturn:
    """Import `modules`, then take requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    _leave_exit_handlers_behind()
    gc.freeze()  # what is imported stays shared with the children
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    children: dict[int, socket.socket] = {}
    child: int | None
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                for orphan in children:
                    _kill(orphan)
                os._exit(0)
            elif key.fileobj == wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                _reap(children, selector)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                if child := _serve(connection, listener, selector):
                    children[child] = connection
                    selector.register(connection, selectors.EVENT_READ, child)
            elif key.data in children:  # nobody waits any more
                _kill(key.data)
                selector.unregister(key.fileobj)
                connection = children[key.data]
                connection.close()


def _leave_exit_handlers_behind() -> None:
    """What libraries want done when the worker ends is no stage's matter, and takes longer than a fork."""
    atexit._clear()
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False
    for name, function in (
        ("weakref", "finalize._exitfunc"),
        ("logging", "shutdown"),
        ("multiprocessing.util", "_exit_function"),
    ):
        if name in sys.modules:
            atexit.register(operator.attrgetter(function)(sys.modules[name]))


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def _reap(children: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    for child in list(children):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            connection = children.pop(child)
            with contextlib.suppress(OSError, KeyError, ValueError):
                selector.unregister(connection)
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            connection.close()


def _serve(connection: socket.socket, listener: socket.socket, selector: selectors.BaseSelector) -> int | None:
    """Fork for one request; returns the child."""
    try:
        head, streams, _, _ = socket.recv_fds(connection, 8, 3)
        wanted = int.from_bytes(head, "big")
        text = b""
        while len(text) < wanted and (part := connection.recv(wanted - len(text))):
            text += part
        request: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        connection.close()
        return None
    child = os.fork()
    if child == 0:
        try:
            selector.close()
            listener.close()
            connection.close()
            _become(request, streams)
        except BaseException:
            traceback.print_exc()
        os._exit(70)
    for stream in streams:
        os.close(stream)
    return child


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be `python -m MODULE ARGUMENTS`, from its first line to its exit status."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    sys.stdin = os.fdopen(0, closefd=False)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        own = os.fdopen(descriptor, "w", closefd=False, buffering=1 if name == "stderr" else -1)
        own.reconfigure(errors="backslashreplace" if name == "stderr" else own.errors)
        if request["environment"].get("PYTHONUNBUFFERED"):
            own.reconfigure(write_through=True)
        setattr(sys, name, own)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    module, *arguments = request["words"]
    sys.path = [str(Path.cwd()), *(path for path in sys.path[1:] if path != str(ROOT))]
    sys.argv = [module, *arguments]
    _title([sys.executable, "-m", module, *arguments])
    status: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)  # which the module may have set
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    _leave(status if isinstance(status, int) else 0 if status is None else 1)


def _leave(status: int) -> NoReturn:
    """End as Python does: threads are waited for, exit handlers run, streams are flushed."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _title(words: list[str]) -> None:
    """Have `ps` show the stage's command in the place of the worker's."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        if start:
            text = b"\0".join(word.encode() for word in words)[: end - start - 1]
            ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), [name for name in sys.argv[2].split(",") if name])
