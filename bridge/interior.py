"""A loaded DVC repository whose stages are begun and ended one by one. All that is private to DVC is used here.

`begin` and `end` are `dvc repro --single-item` cut in two where DVC runs the command, so that many commands run at
once while one DVC, loaded once, judges and records. What is written, dvc.lock, cache and run cache, is what DVC writes,
by its own methods; only how it gets there differs: hashes of dependencies and the parameter file are remembered while
files keep their size, time and inode, and entries are put into dvc.lock without reading the rest of it.
"""

from __future__ import annotations

import functools
import gc
import itertools
import logging
import math
import operator
import os
import re
import sqlite3
import stat
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import dvc.dependency.param
import dvc.rwlock
import psutil
from dvc.dvcfile import LOCK_FILE, Lockfile
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.rwlock import _edit_rwlock, rwlock
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError, StageCache, _get_cache_hash
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update
from dvc_objects.fs.memory import MemoryFileSystem
from networkx import descendants

from bridge.lockfile import key_of, keys, replace, spliced
from bridge.plan import Job

P = ParamSpec("P")
T = TypeVar("T")

DONE, RESTORED, RUN = "done", "restored", "run"
"""What `begin` finds: up to date; brought back from the cache; the command has to be run."""

SHARE = 0.05
"""Of the time that passes, dvc.lock may be written for so much. The run cache, written at once, has the rest."""


TEMPORARY = re.compile(r"(.*)\.[\w-]{22}\.tmp", re.ASCII)
"""What DVC calls a file while it writes it, after the file that it becomes or after none."""

IN_USE_FOR = 3600.0
"""Seconds: a temporary file in the cache may be another repository's for so long after it was last written to."""


class PipelineError(Exception):
    """What DVC has to say against a pipeline or stage, in one line."""


def _files_are_files(method: Callable[Concatenate[Pipeline, P], T]) -> Callable[Concatenate[Pipeline, P], T]:
    """`method`, which puts a folder aside that stands where DVC has a file of its own."""

    @functools.wraps(method)
    def again(self: Pipeline, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(self, *args, **kwargs)
            except PipelineError as error:
                cause = error.__cause__
                if not isinstance(cause, IsADirectoryError) or self._folder.parent not in Path(cause.filename).parents:
                    raise
                with _one_line():
                    _put_aside(Path(cause.filename), self._folder, "Is a directory")

    return again


class Pipeline:
    """The stages of a DVC repository, loaded once. Methods may be called from any thread, and wait for each other."""

    def __init__(self, root: str = ".") -> None:
        """Raises PipelineError where DVC cannot read the pipeline. A dvc.lock that is no lock file is put aside."""
        logging.getLogger("dvc").setLevel(logging.CRITICAL)
        _remember_hashes()
        self._guard = threading.RLock()
        with _one_line():
            self._repo = Repo(root, _wait_for_lock=True)
            self._folder = Path(self._repo.tmp_dir)
            self._repo.stage_cache = _RunCache(self._repo)
            self._put_aside_what_is_broken()
            self._graph = get_active_graph(self._repo.index.graph)
            self._order = plan_repro(self._graph)
        self._stages = {stage.addressing: stage for stage in self._order if isinstance(stage, PipelineStage)}
        self._held: dict[str, ExitStack] = {}
        self._texts: dict[Path, dict[str, str]] = {}  # entries that dvc.lock does not have yet
        self._replacing: set[str] = set()  # stages whose older entry it has
        self._present: dict[Path, set[str]] = {}  # keys that it has
        self._places: dict[str, int] = {}  # of keys, in the order of stages
        self._added: dict[Path, set[str]] = {}
        self._written = time.monotonic()
        self._cost = 0.0
        # SQLite tidies up whenever its last user leaves, and DVC enters and leaves for each output.
        self._links = ExitStack()
        with suppress(sqlite3.Error):
            links = sqlite3.connect(Path(self._repo.state.links.directory, "cache.db"), check_same_thread=False)
            self._links.callback(links.close)
            links.execute("SELECT 1 FROM Cache LIMIT 1").fetchall()

    @property
    def names(self) -> list[str]:
        """DVC's addresses of all stages, each after those that it depends on."""
        return list(self._stages)

    @_files_are_files
    def jobs(self, *, without: Collection[str] = ()) -> list[Job]:
        """Every stage for a scheduler, in the order of `names`; `without` some that count as done."""
        with self._locked():
            self._remove_leftovers()
            stages = [stage for name, stage in self._stages.items() if name not in without]
            undone = {stage for stage in stages if stage.status()}
            gc.freeze()  # what is loaded stays, and looking through it took a fifth of what a stage costs
            return [self._job(stage, undone, without) for stage in stages]

    @_files_are_files
    def is_done(self, name: str) -> bool:
        """Whether DVC finds nothing to do for one stage."""
        with self._locked():
            return not self._stages[name].status()

    def job(self, name: str) -> Job:
        """One stage for a scheduler, with nothing known of whether it is done."""
        with self._locked():
            return self._job(self._stages[name], {self._stages[name]}, ())

    def _job(self, stage: PipelineStage, undone: set[PipelineStage], without: Collection[str]) -> Job:
        after = [before.addressing for before in self._graph.successors(stage)]
        return Job(
            name=stage.addressing,
            command=[stage.cmd] if isinstance(stage.cmd, str) else list(stage.cmd or []),
            folder=os.path.relpath(stage.wdir, self._repo.root_dir),
            after=[name for name in after if name in self._stages and name not in without],
            outputs={str(out): _is_folder(out) for out in stage.outs},
            done=undone.isdisjoint({stage, *descendants(self._graph, stage)}),
            meta=dict(stage.meta or {}),
        )

    @_files_are_files
    def begin(self, name: str, *, force: bool = False) -> str:
        """Make a stage ready: DONE, RESTORED, or RUN, where `end` or `drop` must follow. force: run it in any case."""
        stage = self._stages[name]
        with self._locked(), self._one_list():
            if stage.frozen or not stage.cmd:
                if stage.reproduce(force=force):
                    self._note(stage)
                return DONE
            if not force and not stage.changed():
                return DONE
            self._hold(stage)
            try:
                stage.remove_outs(ignore_remove=False)
                if force:
                    self._have_written(stage)
                    return RUN
                try:
                    self._repo.stage_cache.restore(stage)
                except RunCacheNotFoundError:
                    stage.save_deps()
                    self._have_written(stage)
                    return RUN
                self._record(stage)
            except BaseException:
                self.drop(name)
                raise
            self.drop(name)
            return RESTORED

    def _remove_leftovers(self) -> None:
        """Remove what DVC was writing when it was killed. The cache may be in use by another repository just now."""
        outputs = defaultdict[Path, set[str]](lambda: {""})
        for path in (Path(out.fs_path) for stage in self._stages.values() for out in stage.outs):
            outputs[path.parent].add(path.name)
        for folder, names in outputs.items():
            _remove_temporary(folder, names)
        cache = Path(self._repo.cache.local.path)
        for folder in (cache, *(cache / f"{first:02x}" for first in range(256))):
            _remove_temporary(folder, before=time.time() - IN_USE_FOR)

    def _have_written(self, stage: PipelineStage) -> None:
        """A command may look up its inputs in dvc.lock: it finds them as they are, or not at all."""
        for before in self._graph.successors(stage):
            if isinstance(before, PipelineStage) and before.addressing in self._replacing:
                self._write()
                return

    @_files_are_files
    def end(self, name: str) -> None:
        """Record a stage whose command has ended well: outputs to the cache, run cache, dvc.lock."""
        with self._locked(), self._one_list():
            try:
                self._record(self._stages[name])
            finally:
                self.drop(name)

    def drop(self, name: str) -> None:
        """Let go of a stage whose command has not ended well."""
        with self._guard:
            if held := self._held.pop(name, None):
                held.close()

    def _hold(self, stage: PipelineStage) -> None:
        """Keep other DVC processes from the outputs until `drop`, under the name that DVC's own locks give us."""
        held = ExitStack()
        paths = [out.fs_path for out in stage.outs]
        linked = self._repo.config["core"].get("hardlink_lock", False)
        held.enter_context(rwlock(self._repo.tmp_dir, self._repo.fs, " ".join(sys.argv), [], paths, linked))
        self._held[stage.addressing] = held

    def _record(self, stage: PipelineStage) -> None:
        uncached = any(not out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot))
        stage.save(run_cache=not uncached)
        stage.commit()
        MemoryFileSystem().fs.store.clear()  # where DVC stages directory lists: it searches all that ever were
        self._note(stage)

    def _note(self, stage: PipelineStage) -> None:
        path = Path(stage.dvcfile._lockfile.path)
        text = dumps_yaml({"stages": to_lockfile(stage)}).partition("\n")[2]
        key = key_of(text)
        self._texts.setdefault(path, {})[key] = text
        if path not in self._present:
            self._present[path] = keys(_text(path))
        if key in self._present[path]:
            self._replacing.add(stage.addressing)
        if time.monotonic() - self._written > self._cost / SHARE:
            self._write()

    def flush(self) -> None:
        """Write what dvc.lock does not have yet."""
        with self._guard:
            if self._texts:
                with self._locked():
                    self._write()

    def _write(self) -> None:
        began = time.monotonic()
        if not self._places:
            self._places = {_key(stage): place for place, stage in enumerate(self._stages.values())}
        for path, texts in self._texts.items():
            text = _text(path)
            present = keys(text)
            self._present[path] = present | texts.keys()
            added = self._added.setdefault(path, set())
            added |= texts.keys() - present
            order = sorted(added, key=lambda key: self._places.get(key, -1))
            new = spliced(text, texts, order)
            if new is None:
                document = parse_yaml_for_update(text, str(path)) or {"schema": "2.0"}
                entries = parse_yaml_for_update("".join(texts.values()), str(path))
                document.setdefault("stages", {}).update(entries)
                new = dumps_yaml(document)
            if new != text:
                replace(path, new, self._folder)
        self._texts.clear()
        self._replacing.clear()
        self._written = time.monotonic()
        self._cost = self._written - began

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One thread at a time, and DVC's lock on the repository, which other DVC commands respect."""
        with self._guard, _one_line():
            if self._repo.lock.is_locked:
                yield
            else:
                with self._repo.lock:
                    yield

    @contextmanager
    def _one_list(self) -> Iterator[None]:
        """DVC's list of who reads and writes what, read and written once for all the times that DVC edits it."""
        linked = self._repo.config["core"].get("hardlink_lock", False)
        failure: BaseException | None = None

        def edit(*args: Any) -> Any:
            held.setdefault("read", defaultdict(list))  # DVC takes out what is empty
            held.setdefault("write", defaultdict(dict))
            return nullcontext(held)

        with _edit_rwlock(self._repo.tmp_dir, self._repo.fs, linked) as held:
            dvc.rwlock._edit_rwlock = edit
            try:
                yield
            except BaseException as error:  # the list is written then, too
                failure = error
            finally:
                dvc.rwlock._edit_rwlock = _edit_rwlock
        if failure:
            raise failure

    def _put_aside_what_is_broken(self) -> None:
        """A kill or full disk during DVC's own writing leaves these files cut; DVC then refuses every command."""
        linked = self._repo.config["core"].get("hardlink_lock", False)
        held = self._folder / "rwlock"
        try:
            written = held.stat().st_mtime if held.exists() else 0.0
            with _edit_rwlock(self._repo.tmp_dir, self._repo.fs, linked) as lock:
                _forget_the_dead(lock, written)
        except (DvcException, IsADirectoryError) as error:
            _put_aside(held, self._folder, error)
        path = Path(self._repo.root_dir, LOCK_FILE)
        if path.is_dir():
            _put_aside(path, self._folder, "Is a directory")
        elif path.exists() and not path.read_bytes().strip():
            _put_aside(path, self._folder, "the file is empty")
        try:
            self._repo.index  # noqa: B018 - loads
        except DvcException:
            try:
                Lockfile(self._repo, str(path)).load()
            except DvcException as error:
                _put_aside(path, self._folder, error)
                self._repo._reset()

    def close(self) -> None:
        """Write what is left to write, and let go of everything."""
        with self._guard:
            for name in list(self._held):
                self.drop(name)
            self.flush()
            self._links.close()
            self._repo.close()


def _remove_temporary(folder: Path, names: Collection[str] | None = None, before: float = math.inf) -> None:
    """Remove DVC's temporary files of a folder that may be removed, if they were last written to before a time.

    names: of what they were to become, None for any. before: by time.time.
    """
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            if not (of := TEMPORARY.fullmatch(entry.name)) or (names is not None and of[1] not in names):
                continue
            with suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode) and facts.st_mtime < before:
                    Path(entry.path).unlink()


def _forget_the_dead(lock: dict[str, dict[str, Any]], written: float) -> None:
    """Take out of DVC's list of who writes and reads what those of whom another process now has the number.

    DVC asks only whether there is a process of that number. written: when the list was written, by time.time.
    """
    for path, writer in list(lock["write"].items()):
        if not _is_the_one(writer, written):
            del lock["write"][path]
    for path, readers in list(lock["read"].items()):
        lock["read"][path] = [reader for reader in readers if _is_the_one(reader, written)]
        if not lock["read"][path]:
            del lock["read"][path]


def _is_the_one(entry: dict[str, Any], written: float) -> bool:
    """Whether the process that an entry names is alive: old enough to have written it, and with that command line."""
    try:
        process = psutil.Process(int(entry["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > written + 1:
            return False
        return " ".join(process.cmdline()).endswith(str(entry["cmd"]).partition(" ")[2])
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


class _RunCache(StageCache):
    """DVC's own uses an entry that is cut at the end of a line, and stops at one that is no text."""

    def _load_cache(self, key: str, value: str) -> Any:
        reason: object = "not what its name says"
        try:
            entry = super()._load_cache(key, value)
            if entry is None or _get_cache_hash(entry) == value:
                return entry
        except (DvcException, OSError) as error:
            reason = error
        _put_aside(Path(self._get_cache_path(key, value)), Path(self.repo.tmp_dir), reason)
        return None


def _put_aside(path: Path, folder: Path, reason: object) -> None:
    names = (f"{path.name}.broken{number or ''}" for number in itertools.count())
    aside = next(folder / name for name in names if not (folder / name).is_dir())
    if path.is_dir() and aside.exists():
        aside.unlink()
    path.replace(aside)
    first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    print(f"{path.name}: {first}; put aside as {os.path.relpath(aside)}", file=sys.stderr, flush=True)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _key(stage: PipelineStage) -> str:
    """The stage's name as DVC writes it into dvc.lock."""
    if re.fullmatch(r"[a-z]+@[a-z][\w.-]*", stage.name):
        return str(stage.name)  # thousands of them, and nothing in them needs quotes
    return dumps_yaml({stage.name: 0}).removesuffix(": 0\n")


def _is_folder(out: Output) -> bool:
    """Whether an output is a folder: as DVC recorded it, as it lies there, or else by its name."""
    if out.hash_info:
        return bool(out.hash_info.isdir)
    if out.exists:
        return bool(out.isdir())
    return not Path(out.fs_path).suffix[1:2].isalpha()


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        raise PipelineError(" ".join(str(error).split())) from error
    except OSError as error:
        where = error.filename or os.path.abspath(".dvc")  # noqa: PTH100 - it may not be there
        raise PipelineError(f"{where}: {error.strerror or error}") from error


Print = tuple[tuple[str, int, int, int], ...]


def _print_of(path: str) -> Print | None:
    """Name, size, time and inode of a file or of all files below a folder: what DVC's own memory of hashes goes by."""
    try:
        if os.path.isdir(path):  # noqa: PTH112 - pathlib takes three times as long, thousands of times
            return tuple(_prints(path))
        return ((path, *_fingerprint(os.stat(path))),)  # noqa: PTH116
    except OSError:
        return None


def _prints(folder: str) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=operator.attrgetter("name"))
    for entry in entries:
        if entry.is_dir():
            yield from _prints(entry.path)
        else:
            yield entry.path, *_fingerprint(entry.stat())


def _fingerprint(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _remembering(function: Callable[..., Any], path_of: Callable[..., tuple[str, Any]]) -> Callable[..., Any]:
    """`function`, whose results are kept while the files of its path stay as they are."""
    kept: dict[Any, tuple[Print, Any]] = {}

    def remembering(*args: Any, **kwargs: Any) -> Any:
        path, key = path_of(*args, **kwargs)
        if key is None or (now := _print_of(path)) is None:
            return function(*args, **kwargs)
        if key in kept and kept[key][0] == now:
            return kept[key][1]
        result = function(*args, **kwargs)
        kept[key] = now, result
        return result

    remembering.original = function  # type: ignore[attr-defined]
    return remembering


def _remember_hashes() -> None:
    """Without this, 500 stages that depend on the same code hash it 500 times, and read params.yaml 1,500 times."""
    if hasattr(Output._build, "original"):
        return

    def dependency(self: Output, *args: Any, **kwargs: Any) -> tuple[str, Any]:
        local = self.IS_DEPENDENCY and self.fs.protocol == "local"
        return self.fs_path, (self.fs_path, self.hash_name, self.use_cache) if local else None

    def parameters(path: str, fs: Any, **kwargs: Any) -> tuple[str, Any]:
        return path, path if fs.protocol == "local" and not kwargs else None

    Output._build = _remembering(Output._build, dependency)
    dvc.dependency.param.load_path = _remembering(dvc.dependency.param.load_path, parameters)
