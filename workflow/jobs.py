"""The stages of dvc.yaml as DVC resolves them, told in the words of a scheduler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage import PipelineStage
from networkx import descendants

SLICES = Path(".tailnas/params")
VALIDATE = "validate"
"""This stage is no job: it depends on the whole of params.yaml, and every job depends on it."""


@dataclass(frozen=True)
class Job:
    """One stage of the pipeline.

    name: its address in DVC, as in `search@bbn_hls-30-0`. inputs: folders that other jobs write (what else it reads DVC
    watches). outputs: folders. settings: its parameters and command. done: whether DVC finds nothing to do for it and
    for all before it. gpus: how many it uses where there are any.
    """

    name: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[str, Any]
    done: bool
    gpus: int

    @property
    def rule(self) -> str:
        """The name as an identifier."""
        return "".join(character if character.isalnum() else "_" for character in self.name)

    def slice_file(self) -> str:
        """A file with the job's settings, written anew where there is something to do, so that it is newer than what
        the job has written before.
        """
        path = SLICES / f"{self.name}.json"
        if not self.done or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.settings, indent=1, sort_keys=True, default=str))
        return str(path)


def jobs(repo: Repo, *, gpus: bool) -> Iterator[Job]:
    """All stages but `validate`, in no particular order. gpus: whether any may use a GPU."""
    graph, changed = repo.index.graph, set(repo.status())
    for stage in repo.index.stages:
        if isinstance(stage, PipelineStage) and stage.name != VALIDATE:
            upstream = [before for before in graph.successors(stage) if before.name != VALIDATE]
            ancestors = {before.addressing for before in descendants(graph, stage) if before.name != VALIDATE}
            yield _job(stage, upstream, not changed & {stage.addressing, *ancestors}, gpus)


def _job(stage: PipelineStage, upstream: list[PipelineStage], done: bool, gpus: bool) -> Job:
    settings: dict[str, Any] = {"cmd": stage.cmd}
    for dependency in stage.deps:
        if isinstance(dependency, ParamsDependency):
            settings.update(dependency.read_params(flatten=True))
    return Job(
        name=stage.addressing,
        inputs=sorted({str(out) for before in upstream for out in before.outs}),
        outputs=[str(out) for out in stage.outs],
        settings=settings,
        done=done,
        gpus=int((stage.meta or {}).get("gpu", 0)) if gpus else 0,
    )
