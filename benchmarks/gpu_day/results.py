"""The one file that every job appends to, and the parts that jobs are made of."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tailnas.foundation.errors import UserError

State = Literal["done", "partly", "failed"]
FILE = "results.json"


class OutOfTime(Exception):
    """The call's time is up; what is noted and checkpointed by now counts."""


@dataclass(frozen=True)
class Day:
    """Where and how the jobs run.

    folder: results, checkpoints and studies. device: `cuda` or `cpu`. miniature: everything as small as it can be, to
    see that it runs. photographs: what `benchmarks.photographs` packed, None for noise in their place. source: packed
    images to pretrain on, None for searches from random weights. at_once: networks that share the card, 0 for as many
    as the job `sharing` found best. deadline: of `time.time`.
    """

    folder: Path
    device: str
    miniature: bool
    photographs: Path | None
    source: Path | None
    at_once: int
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.time()

    def until(self, deadline: float) -> Day:
        return replace(self, deadline=min(deadline, self.deadline))

    def require(self, seconds: float) -> None:
        """Raises OutOfTime unless as many seconds are left."""
        if self.seconds_left < seconds:
            raise OutOfTime


Note = Callable[[str, Any], None]
"""Writes what stands under a key of a job's results, at once."""


@dataclass(frozen=True)
class Part:
    """A piece of a job whose result is kept by itself.

    run: returns the result; it is told what an interrupted call noted (None at first) and may note what it has so far.
    seconds: that it takes at least; it is not begun with fewer left.
    """

    run: Callable[[Any, Callable[[Any], None]], Any]
    seconds: float = 30


def in_one_go(function: Callable[..., Any], *arguments: Any) -> Callable[[Any, Callable[[Any], None]], Any]:
    """A part's `run` that neither asks what was noted nor notes anything: `function` of `arguments`."""
    return lambda known, note: function(*arguments)


class Results:
    """`results.json`: `{"calls": [...], "jobs": {name: {"state", "seconds", "errors", "results"}}}`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def read(self) -> dict[str, Any]:
        """The document; an empty one where there is no file. Raises UserError for one that is no such document."""
        if not self.path.exists():
            return {"calls": [], "jobs": {}}
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if not isinstance(document["calls"], list) or not isinstance(document["jobs"], dict):
                raise TypeError("calls and jobs")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path}: cannot be read ({error}); allowed: what an earlier call wrote") from None
        return dict(document)

    def job(self, name: str) -> dict[str, Any]:
        empty = {"state": "partly", "seconds": 0.0, "errors": {}, "results": {}}
        return {**empty, **self.read()["jobs"].get(name, {})}

    def update_job(self, name: str, job: Mapping[str, Any]) -> None:
        document = self.read()
        document["jobs"][name] = dict(job)
        self._write(document)

    def add_call(self, call: Mapping[str, Any]) -> None:
        document = self.read()
        document["calls"].append(dict(call))
        self._write(document)

    def _write(self, document: Mapping[str, Any]) -> None:
        write_json(self.path, document)


def write_json(path: Path, document: Any) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(document, indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def run_parts(name: str, parts: Mapping[str, Part], day: Day, results: Results) -> State:
    """Run what is not done of a job; one part that fails leaves the others alone. Returns the job's state."""
    job = results.job(name)
    errors, found = job["errors"], job["results"]
    finished = {key for key in found if key not in errors and not _unfinished(found[key])}
    out_of_time = False
    begun = time.time()

    def save(state: State) -> None:
        results.update_job(
            name,
            {"state": state, "seconds": round(job["seconds"] + time.time() - begun, 1)}
            | {"errors": errors, "results": found},
        )

    for key, part in parts.items():
        if key in finished:
            continue

        def note(value: Any, key: str = key) -> None:
            found[key] = {"unfinished": True, **value}
            save("partly")

        try:
            day.require(part.seconds)
            found[key] = part.run(found.get(key), note)
            errors.pop(key, None)
        except OutOfTime:
            out_of_time = True
            continue
        except Exception as error:
            last_line = (str(error).strip().splitlines() or [""])[-1]
            errors[key] = f"{type(error).__name__}: {last_line}"
            traceback.print_exc()
        save("partly")
    state: State = "failed" if errors else "partly" if out_of_time else "done"
    save(state)
    return state


def _unfinished(value: Any) -> bool:
    return isinstance(value, dict) and value.get("unfinished") is True
