"""The process behind bridge/worker.py: it imports libraries once and forks for each request.

A module that is asked for again gets a template, a fork of this process that has imported what the module imports and
forks in its turn, until a file of the packages that it has read from is another.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import operator
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
"""Where this package lies; a stage's own path does not have it."""

Request = dict[str, Any]
"""words: MODULE and ARGUMENTS; folder: to run it in; environment; direct: whether to do without a template."""
LARGE, PIECE = 2 << 20, 16 << 20
"""Bytes of a large page of memory, and of what is put into such pages at a time."""
MADV_COLLAPSE = 25

Elsewhere = tuple[str, Callable[[], None]]
"""The address to ask instead, and what to do when the one who asks knows it."""


def main(listener: socket.socket, modules: list[str], packages: list[str]) -> NoReturn:
    """Import `modules`, then take requests until standard input ends. packages: of which templates are made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    _leave_exit_handlers_behind()
    _Forks(listener, _Templates(listener.getsockname(), packages).address).serve()


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


class _Retired(Exception):
    """A template takes no more requests."""


class _Forks:
    """Takes requests and forks for each that `elsewhere` sends nowhere else."""

    def __init__(
        self, listener: socket.socket, elsewhere: Callable[[Request, _Forks], Elsewhere | None], *, idle: bool = True
    ) -> None:
        """idle: whether time in which nobody asks is used for `settle`."""
        self._idle = idle
        self._listener = listener
        self._elsewhere = elsewhere
        self._children: dict[int, socket.socket] = {}
        self._pieces = large_pages()
        self.templates: dict[int, Callable[[int], None]] = {}
        """Process numbers, and what to do with the exit status."""

    def serve(self) -> NoReturn:
        gc.freeze()  # what is imported stays shared with the children
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of standard input is what ends the children, too
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._own = [wake, waker]
        self._selector = selectors.DefaultSelector()
        for source in (self._listener, 0, wake):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            events = self._selector.select(0 if self._idle else None)
            if not events:
                self._idle = next(self._pieces, False)
            for key, _ in events:
                if key.fileobj == 0:
                    for child in self._children:
                        _kill(child)
                    os._exit(0)
                elif key.fileobj == wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                    self._reap()
                elif key.fileobj is self._listener:
                    self._take()
                elif key.data in self._children:  # nobody waits any more
                    _kill(key.data)
                    self._selector.unregister(key.fileobj)
                    self._children[key.data].close()
            if not self._children and self._listener.fileno() < 0:
                os._exit(0)

    def settle(self) -> None:
        """Have memory lie as it will stay, for a template to share it."""
        for _ in self._pieces:
            pass

    def _reap(self) -> None:
        for child in [*self._children, *self.templates]:
            found, status = os.waitpid(child, os.WNOHANG)
            if not found:
                continue
            if child in self.templates:
                self.templates.pop(child)(status)
                continue
            connection = self._children.pop(child)
            with contextlib.suppress(OSError, KeyError, ValueError):
                self._selector.unregister(connection)
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            connection.close()

    def _take(self) -> None:
        connection, _ = self._listener.accept()
        try:
            request, streams = _read(connection)
        except (OSError, ValueError):
            connection.close()
            return
        elsewhere = None
        try:
            elsewhere = self._elsewhere(request, self)
            if elsewhere is None:
                self._fork(request, streams, connection)
            else:
                with connection, contextlib.suppress(OSError):
                    connection.sendall(f"{elsewhere[0]}\n".encode())
        except _Retired:
            self._selector.unregister(self._listener)
            self._listener.close()
            connection.close()
        except OSError:  # no memory for a fork, no room for a socket: who asks hears that nothing has begun
            connection.close()
        finally:
            for stream in streams:
                os.close(stream)
        if elsewhere:
            elsewhere[1]()

    def _fork(self, request: Request, streams: list[int], connection: socket.socket) -> None:
        child = os.fork()
        if child == 0:
            try:
                self.leave()
                connection.close()
                _become(request, streams)
            except BaseException:
                traceback.print_exc()
            os._exit(70)
        self._children[child] = connection
        self._selector.register(connection, selectors.EVENT_READ, child)
        with contextlib.suppress(OSError):
            connection.sendall(b"+")

    def leave(self) -> None:
        """What a child is no part of."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._listener.close()
        for connection in self._children.values():
            connection.close()
        for own in self._own:
            os.close(own)


def _read(connection: socket.socket) -> tuple[Request, list[int]]:
    """A request and the descriptors of its standard streams."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    wanted = int.from_bytes(head, "big")
    text = b""
    while len(text) < wanted and (part := connection.recv(wanted - len(text))):
        text += part
    return json.loads(text), streams


def large_pages() -> Iterator[bool]:
    """Have the kernel put this process's own memory into large pages, piece by piece: a fork has less to copy then.

    Before Linux 6.1 nothing is done.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    advise = ctypes.CDLL(None).madvise
    for line in maps.read_text().splitlines():
        span, mode, _, _, inode, *name = line.split()
        if (mode, inode) != ("rw-p", "0") or name not in ([], ["[heap]"]):
            continue
        start, end = (int(place, 16) for place in span.split("-"))
        end -= end % LARGE
        for piece in range(start + -start % LARGE, end, PIECE):
            if advise(ctypes.c_void_p(piece), ctypes.c_size_t(min(PIECE, end - piece)), MADV_COLLAPSE) == 0:
                yield True


def _kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


class _Templates:
    """Where modules of `packages` are best asked for."""

    def __init__(self, beside: str, packages: list[str]) -> None:
        self._beside = beside
        self._packages = packages
        self._asked: dict[tuple[str, str], int] = {}
        self._impossible: set[tuple[str, str]] = set()

    def address(self, request: Request, forks: _Forks) -> Elsewhere | None:
        """None for the first request of a module, which may be the only one, and where a template was no use."""
        what = request["folder"], request["words"][0]
        if request["direct"] or what in self._impossible or what[1].partition(".")[0] not in self._packages:
            return None
        if what not in self._asked:
            self._asked[what] = len(self._asked)
            return None
        address = Path(f"{self._beside}-{self._asked[what]}")
        if address.exists():
            return str(address), lambda: None
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(address))
        listener.listen(1024)
        return str(address), lambda: self._start(listener, what, forks)

    def _start(self, listener: socket.socket, what: tuple[str, str], forks: _Forks) -> None:
        forks.settle()
        try:
            child = os.fork()
        except OSError:
            self._impossible.add(what)
            listener.close()
            return
        if child == 0:
            forks.leave()
            _be_template(listener, *what, self._packages)
        listener.close()
        forks.templates[child] = lambda status: self._impossible.add(what) if status else None


def _be_template(listener: socket.socket, folder: str, module: str, packages: list[str]) -> NoReturn:
    """Import what a module imports, and fork for it while that is what a fresh Python would import."""
    address = Path(listener.getsockname())

    def unless_changed(request: Request, forks: _Forks) -> None:
        with contextlib.suppress(OSError):
            if _files(packages) == read:
                return
        address.unlink(missing_ok=True)
        raise _Retired

    with contextlib.suppress(BaseException):
        _title([sys.executable, "-m", "bridge.forks", module])
        os.chdir(folder)
        sys.path = _path_of_a_stage()
        read = _files(packages)
        for name in _imported(module):
            with contextlib.suppress(Exception):  # which the stage itself will meet
                importlib.import_module(name)
        if len([*Path("/proc/self/task").iterdir()]) == 1:  # a fork has no threads but the one that forks
            _Forks(listener, unless_changed, idle=False).serve()  # large pages of its own would be no one else's
    address.unlink(missing_ok=True)
    os._exit(1)


def _files(packages: list[str]) -> dict[str, tuple[int, int, int]]:
    """What tells that a file of the packages in this folder is another, by path. Raises OSError for links to folders,
    behind which there may be more.
    """
    found = {}
    above = [package for package in packages if Path(package).is_dir()]
    while above:
        with os.scandir(above.pop()) as entries:
            for entry in entries:
                if entry.name == "__pycache__":
                    continue
                if entry.is_dir():
                    if entry.is_symlink():
                        raise NotADirectoryError(entry.path)
                    above.append(entry.path)
                else:
                    facts = entry.stat()
                    found[entry.path] = facts.st_mtime_ns, facts.st_size, facts.st_ino
    return found


def _imported(module: str) -> Iterator[str]:
    """The modules that the first lines of one import, which may not be imported itself before it is run."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return
    for line in ast.parse(Path(found.origin).read_bytes()).body:
        if isinstance(line, ast.Import):
            yield from (name.name for name in line.names)
        elif isinstance(line, ast.ImportFrom) and line.module and not line.level:
            yield line.module


def _path_of_a_stage() -> list[str]:
    return [str(Path.cwd()), *(path for path in sys.path[1:] if path != str(ROOT))]


def _become(request: Request, streams: list[int]) -> NoReturn:
    """Be `python -m MODULE ARGUMENTS`, from its first line to its exit status."""
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
    sys.path = _path_of_a_stage()
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


TITLE = 4096
"""Bytes of the worker's command line that a child may fill with its own, for `ps` to show."""


def _title(words: list[str]) -> None:
    """Have `ps` show the stage's command in the place of the worker's."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        if start:
            text = b"\0".join(word.encode() for word in words)[: end - start - 1]
            ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    names = [[name for name in words.split(",") if name] for words in sys.argv[2:4]]
    main(socket.socket(fileno=int(sys.argv[1])), *names)
