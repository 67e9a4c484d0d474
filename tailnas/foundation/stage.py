"""What every stage script shares: its parameters, its lock, its whole-or-nothing outputs, its error line.

A stage's declaration in dvc.yaml is the one truth about what it may read: parameters that are not listed there cannot
be asked for, and parameters, inputs and code listed there make the key under which its checkpoints are found again.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tailnas.foundation.errors import UserError, one_line
from tailnas.foundation.extensions import Chosen, OneOf
from tailnas.foundation.machine import hardware, peak_memory
from tailnas.foundation.pipeline import declarations
from tailnas.foundation.recorded import require_recorded
from tailnas.foundation.settings import Runtime, first_mistake
from tailnas.foundation.whole_file import write_whole
from tailnas.foundation.yaml_file import read_yaml

Settings = TypeVar("Settings")

PARAMS = Path("params.yaml")
STATE_FOLDER = Path(".tailnas")
"""Locks and checkpoints; nobody's output, neither DVC's nor Git's."""


def arguments(description: str | None, *names: str, inputs: tuple[str, ...] = ()) -> argparse.Namespace:
    """Command line of a stage: `--output FOLDER`, a path for each of `inputs`, text for each of `names`."""
    parser = argparse.ArgumentParser(description=description)
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True)
    for name in inputs:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    return parser.parse_args()


def main(run: Callable[[], None]) -> None:
    """Run a script; a user's mistake or the system's refusal is one line on stderr and exit status 1."""
    threading.excepthook = _thread_failed
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # of names that no terminal of this locale can show
    gc.freeze()  # collecting over the libraries' lasting objects took 3 % of a small network's search step
    try:
        run()
        sys.stdout.flush()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interpreter that ends swallows it, with status 0
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has enough of it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (line := one_line(error)) is None:
            raise
        sys.exit(line)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's writer meets a full disk in a thread of its own and hands the error on to the main one."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


class Stage:
    """One run of a stage: `with Stage("search", args) as stage: ...`.

    Holds an exclusive lock on the output for its lifetime. A second process for the same output waits; if the first one
    finished the very same work meanwhile, the second has nothing left to do and exits with status 0.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name = name
        self.args = args
        self.output: Path = args.output
        self._params = read_yaml(PARAMS)
        declared = declarations()
        if name not in declared:
            raise UserError(f"dvc.yaml: stages: no {name!r}; allowed: the stages of the project under their names")
        self._declaration: dict[str, Any] = declared[name]
        self.runtime = self._checked("runtime", Runtime)
        self.run = self.output.parent.name if self.output.name == name else self.output.name
        self._started = time.monotonic()

    def section(self, key: str, kind: type[Settings]) -> Settings:
        """The settings under a dotted key that dvc.yaml lists for this stage, or that lies below one, as `kind`.

        Raises UserError where they are not valid, and LookupError where the stage does not depend on them.
        """
        self._require_declared(key)
        return self._checked(key, kind)

    def chosen(self, key: str, one_of: OneOf) -> Chosen:
        """The file that the section under `key` names, with its settings. Raises as `section` does."""
        self._require_declared(key)
        chosen: Chosen = self._checked(key, Annotated[Any, one_of])
        return chosen

    def _require_declared(self, key: str) -> None:
        if not any(key == declared or key.startswith(f"{declared}.") for declared in self.sections):
            raise LookupError(f"dvc.yaml does not list {key} among the params of {self.name}")

    def _checked(self, key: str, kind: Any) -> Any:
        try:
            return TypeAdapter(kind).validate_python(self._value(key), strict=True)
        except ValidationError as error:
            found = first_mistake(error, key)
            raise UserError(f"{PARAMS}: {found}; allowed: what the validate stage accepts") from None

    def _value(self, key: str) -> Any:
        value = self._params
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UserError(f"{PARAMS}: {key}: missing; allowed: what the validate stage accepts")
            value = value[part]
        return value

    @property
    def sections(self) -> list[str]:
        """The keys that dvc.yaml lists for this stage."""
        return [self._resolved(declared) for declared in self._declaration.get("params", [])]

    def _resolved(self, text: str) -> str:
        """`text` of dvc.yaml as DVC resolves it for this run: from its arguments, or from params.yaml."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name == "key":
                return str(self.args.role)
            if name.startswith("item."):
                own = name.removeprefix("item.")
                return str(getattr(self.args, own, None) or self._value(f"data.{self.args.role}.{own}"))
            return str(self._value(name))

        return re.sub(r"\$\{([^}]+)\}", value, text)

    @property
    def logs(self) -> Path:
        """Folder for seconds, device and TensorBoard events; no one's output."""
        return Path("logs", self.name, self.run)

    @property
    def live(self) -> Path:
        """File for the curves of all runs of this stage, while they are computed; no one's output."""
        return Path("logs", "live", f"{self.name}.csv")

    @property
    def lock_file(self) -> Path:
        """Locked while a process writes the output; holds a serial number and the key of the work finished last."""
        return STATE_FOLDER / "locks" / str(self.output).replace(os.sep, "-")

    @property
    def checkpoint(self) -> Path:
        """File of this work's checkpoint: the same for the same stage, parameters, inputs, code and versions."""
        return STATE_FOLDER / "checkpoints" / f"{self.name}-{self.run}-{self.key[:16]}.pt"

    @cached_property
    def key(self) -> str:
        """Hash of everything that this stage's outputs are a function of, as it is when the work begins."""
        runtime = self.runtime
        facts = {
            "arguments": {name: str(value) for name, value in vars(self.args).items()},
            "sections": {declared: self._value(declared) for declared in self.sections},
            "runtime": [runtime.device, runtime.threads, platform.machine(), version("torch"), version("numpy")],
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for path in self.dependencies():
            for file in _files(path):
                digest.update(str(file).encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def dependencies(self) -> Iterator[Path]:
        """Files and folders that dvc.yaml lists: code as it stands there, the others below the inputs given here."""
        for dependency in self._declaration["deps"]:
            if dependency.startswith(("stages/", "tailnas/")):
                yield Path(self._resolved(dependency))
        yield from self.inputs()

    def inputs(self) -> Iterator[Path]:
        """What dvc.yaml lists of the outputs of other stages, below the inputs given here."""
        words = self._declaration["cmd"].split()
        inputs = {
            words[words.index(f"--{name.replace('_', '-')}") + 1]: value
            for name, value in vars(self.args).items()
            if isinstance(value, Path) and name != "output"
        }
        for dependency in self._declaration["deps"]:
            for declared, given in inputs.items():
                if dependency == declared or dependency.startswith(f"{declared}/"):
                    yield given / dependency.removeprefix(declared).removeprefix("/")

    def __enter__(self) -> Stage:
        for name, value in vars(self.args).items():
            if isinstance(value, Path) and name != "output" and not value.exists():
                raise UserError(f"{value}: no such file or folder (--{name}); allowed: the output of an earlier stage")
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = self.lock_file.open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before = self._finished()
            print(f"{self.name} {self.run}: waiting for another process that writes {self.output}", file=sys.stderr)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self._finished() not in (before, "") and self._finished().endswith(self.key) and self.output.exists():
                print(f"{self.name} {self.run}: that process has finished the same work", file=sys.stderr)
                sys.exit(0)
        self._remove_leftovers()
        _ = self.key
        if "DVC_STAGE" in os.environ:  # run by hand, a stage may read what nobody recorded
            require_recorded(self.inputs())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()
        if isinstance(error, OSError) and error.filename is None:  # what is written says where, what is full does not
            error.filename = str(self.output)

    def _finished(self) -> str:
        """What the last process that finished under this lock left there."""
        self._lock.seek(0)
        return self._lock.read()

    def _remove_leftovers(self) -> None:
        for leftover in self.output.parent.glob(f".{self.output.name}.*.tmp"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A fresh folder that becomes the output when the block ends without an error, and else vanishes."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.output.with_name(f".{self.output.name}.{os.getpid()}.tmp")
        temporary.mkdir()
        try:
            yield temporary
            _synchronise(temporary)
            if self.output.exists():
                shutil.rmtree(self.output)
            temporary.rename(self.output)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._finish()

    def _finish(self) -> None:
        last = self._finished().split()[:1]
        serial = 1 + (int(last[0]) if last and last[0].isdigit() else 0)
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{serial} {self.key}")
        self._lock.flush()
        for file in self.checkpoint.parent.glob(f"{self.checkpoint.stem}*{self.checkpoint.suffix}"):
            file.unlink(missing_ok=True)
        facts = {
            "seconds": round(time.monotonic() - self._started, 2),
            **peak_memory(),
            **hardware(),
            "device": self.runtime.device,
            "threads": self.runtime.threads,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "versions": {package: version(package) for package in ("torch", "numpy")},
        }
        write_whole(self.logs / "run.json", (json.dumps(facts, indent=2) + "\n").encode())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    ignored = {"__pycache__", "README.md"}  # as .dvcignore does
    return sorted(file for file in path.rglob("*") if file.is_file() and ignored.isdisjoint(file.parts))


def _synchronise(folder: Path) -> None:
    """Have the disk hold the files before the folder gets its final name."""
    for file in _files(folder):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
