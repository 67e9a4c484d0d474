"""The stages of dvc.yaml as DVC resolves them, told in the words of a scheduler."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.dvcfile import PROJECT_FILE, load_file
from dvc.repo import Repo
from dvc.stage import PipelineStage

SLICES = Path(".tailnas/params")
VALIDATE = "validate"
"""This stage is no job: it depends on the whole of params.yaml, and every job depends on it."""


@dataclass(frozen=True)
class Job:
    """One stage of the pipeline.

    name: its address in DVC, as in `search@bbn_hls-30-0`. inputs: files, and folders that other jobs write.
    outputs: folders. settings: its parameters and command. recorded: what dvc.lock says of them, None if it says
    nothing. gpus: how many it uses where there are any.
    """

    name: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[str, Any]
    recorded: dict[str, Any] | None
    gpus: int

    @property
    def rule(self) -> str:
        """The name as an identifier."""
        return "".join(character if character.isalnum() else "_" for character in self.name)

    def slice_file(self) -> str:
        """A file that changes when the job's settings do.

        Where the settings are those of dvc.lock, the outputs are newer than them, whichever engine wrote them: the file
        gets an old time stamp.
        """
        path = SLICES / f"{self.name}.json"
        text = json.dumps(self.settings, indent=1, sort_keys=True, default=str)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_text(text)
            if json.loads(text) == json.loads(json.dumps(self.recorded, default=str)):
                os.utime(temporary, (1, 1))
            temporary.replace(path)
        return str(path)


def jobs(repo: Repo, *, gpus: bool) -> Iterator[Job]:
    """All stages but `validate`, in no particular order. gpus: whether any may use a GPU."""
    graph, locked = repo.index.graph, _locked_stages(repo)
    for stage in repo.index.stages:
        if isinstance(stage, PipelineStage) and stage.name != VALIDATE:
            upstream = [before for before in graph.successors(stage) if before.name != VALIDATE]
            yield _job(stage, upstream, locked.get(stage.name), gpus)


def _job(stage: PipelineStage, upstream: list[PipelineStage], locked: dict[str, Any] | None, gpus: bool) -> Job:
    written = {str(out) for before in upstream for out in before.outs}
    inputs = sorted(written)
    settings: dict[str, Any] = {"cmd": stage.cmd}
    for dependency in stage.deps:
        path = str(dependency)
        if isinstance(dependency, ParamsDependency):
            settings.update(dependency.read_params(flatten=True))
        elif dependency.fs_path and Path(path).parts[0] in {"stages", "tailnas"}:
            inputs += _source_files(Path(path))
    return Job(
        name=stage.addressing,
        inputs=inputs,
        outputs=[str(out) for out in stage.outs],
        settings=settings,
        recorded=_recorded(locked),
        gpus=int((stage.meta or {}).get("gpu", 0)) if gpus else 0,
    )


def _source_files(path: Path) -> list[str]:
    """The file itself, or all files of a code folder but what Python leaves there."""
    files = [path] if path.is_file() else path.rglob("*")
    return sorted(str(file) for file in files if file.is_file() and "__pycache__" not in file.parts)


def _locked_stages(repo: Repo) -> dict[str, dict[str, Any]]:
    """What dvc.lock says of each stage; the file is read once, since reading takes DVC half a second."""
    stages: dict[str, dict[str, Any]] = load_file(repo, PROJECT_FILE).lockfile_contents.get("stages", {})
    return stages


def _recorded(locked: dict[str, Any] | None) -> dict[str, Any] | None:
    if not locked:
        return None
    settings: dict[str, Any] = {"cmd": locked["cmd"]}
    for values in locked.get("params", {}).values():
        settings.update(values)
    return settings
