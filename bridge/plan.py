"""A pipeline in the words of a scheduler, and the file in which other processes find it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One stage.

    name: DVC's address, as in `search@bbn_hls-30-0`. command: lines for a shell. folder: where they run, from the root.
    after: names of the stages whose outputs it reads. outputs: path to whether it is a folder. done: whether nothing is
    to do for it and for all before it. meta: what dvc.yaml says under this word.
    """

    name: str
    command: list[str]
    folder: str
    after: list[str]
    outputs: dict[str, bool]
    done: bool
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """The name as an identifier."""
        return "".join(character if character.isalnum() else "_" for character in self.name)


def write_plan(path: Path, jobs: Iterable[Job], **facts: Any) -> None:
    """Write jobs and further facts, JSON values, as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"jobs": [asdict(job) for job in jobs], **facts}), encoding="utf-8")
    temporary.replace(path)


def read_plan(path: Path) -> tuple[list[Job], dict[str, Any]]:
    """What `write_plan` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [Job(**job) for job in document.pop("jobs")], document
