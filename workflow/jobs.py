"""The stages of dvc.yaml as DVC resolves them, told in the words of a scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo, lock_repo
from dvc.stage import PipelineStage
from networkx import descendants

STAMPS = Path(".tailnas/stamps")
VALIDATE = "validate"
"""This stage is no job: it depends on the whole of params.yaml, and every job depends on it."""


@dataclass(frozen=True)
class Job:
    """One stage of the pipeline.

    name: its address in DVC, as in `search@bbn_hls-30-0`. command: of its script. inputs: folders that other jobs write
    (what else it reads DVC watches). outputs: folders. done: whether DVC finds nothing to do for it and for all before
    it. gpus: how many it uses where there are any.
    """

    name: str
    command: str
    inputs: list[str]
    outputs: list[str]
    done: bool
    gpus: int

    @property
    def rule(self) -> str:
        """The name as an identifier."""
        return "".join(character if character.isalnum() else "_" for character in self.name)

    def stamp(self) -> str:
        """A file that is newer than all that the job has written, where there is something to do."""
        path = STAMPS / self.name
        if not self.done or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{self.command}\n")  # Snakemake goes by content where a file is empty
        return str(path)


def jobs(repo: Repo, *, gpus: bool) -> Iterator[Job]:
    """All stages but `validate`, in no particular order. gpus: whether any may use a GPU."""
    with lock_repo(repo):
        graph = repo.index.graph
        stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage) and stage.name != VALIDATE]
        undone = {stage for stage in stages if stage.status()}
    for stage in stages:
        upstream = [before for before in graph.successors(stage) if before.name != VALIDATE]
        yield Job(
            name=stage.addressing,
            command=stage.cmd,
            inputs=sorted({str(out) for before in upstream for out in before.outs}),
            outputs=[str(out) for out in stage.outs],
            done=undone.isdisjoint({stage, *descendants(graph, stage)}),
            gpus=int((stage.meta or {}).get("gpu", 0)) if gpus else 0,
        )
