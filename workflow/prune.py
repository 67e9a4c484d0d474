"""Remove what the present study no longer asks for: `make prune`.

Runs, splits, pretrained super-networks and exports that params.yaml does not list, data sets that are neither source
nor target, time stamps of stages that are no more, and checkpoints of work that is finished or would now be other work.
What the present study has is never touched, an interrupted stage's checkpoint included; nor is a file whose name no
stage gave. DVC's cache keeps everything (`dvc gc --workspace` empties that).
"""

from __future__ import annotations

import argparse
import fcntl
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from bridge.interior import Pipeline, PipelineError
from bridge.plan import Job
from tailnas.data.dataset import META_FILE
from tailnas.foundation.errors import UserError
from tailnas.foundation.stage import STATE_FOLDER, Stage
from tailnas.foundation.stage import main as stage_main
from tailnas.validate.parameters import Params, load_params
from workflow.jobs import STAMPS, VALIDATE
from workflow.session import exclusive

NAMES = {
    "data/splits": r"if([0-9.e+]+|natural)-seed[0-9]+",
    "results/pretrain": r"seed[0-9]+",
    "results/runs": r"[a-z0-9_]+-(if)?([0-9.e+]+|natural)-(seed)?[0-9]+(-[0-9]+)?",
    "results/exports": r"(onnx|torch_export)-[a-z0-9_]+-([0-9.e+]+|natural)-[0-9]+-[0-9]+",
}
"""Folders whose entries each belong to one split, seed or run, and the names that stages give there."""


def obsolete_results(outputs: Iterable[str], params: Params) -> Iterator[Path]:
    """Entries of the folders that stages write which hold none of `outputs`."""
    kept = list(outputs)
    candidates = [
        entry
        for folder, pattern in NAMES.items()
        for entry in sorted(Path(folder).glob("*"))
        if re.fullmatch(pattern, entry.name)
    ]
    # Users may keep images of their own below data/raw: only what fetch wrote has a meta.json.
    candidates += [folder for folder in sorted(Path("data/raw").glob("*")) if (folder / META_FILE).is_file()]
    for entry in candidates:
        if not any(output == str(entry) or output.startswith(f"{entry}/") for output in kept) and not _is_source(
            entry, params
        ):
            yield entry


def _is_source(folder: Path, params: Params) -> bool:
    """Whether the study's data come from this folder or from inside it."""
    given = [data.settings.own_folders().values() for data in (params.data.source, params.data.target)]
    return any(path.resolve().is_relative_to(folder.resolve()) for paths in given for path in paths)


def obsolete_checkpoints(present: Iterable[Job]) -> Iterator[Path]:
    """Checkpoints that no stage would go on from. A stage keeps its own while it is at work or misses an input."""
    files = sorted((STATE_FOLDER / "checkpoints").glob("*"))
    stages = [stage for job in present if (stage := stage_of(job))] if files else []
    for file in files:
        name = file.name.removeprefix(".")  # that of a file which is being written begins with a dot
        owners = [stage for stage in stages if name.startswith(f"{stage.name}-{stage.run}-")]
        if not any(_may_go_on(stage, name) for stage in owners):
            yield file


def _may_go_on(stage: Stage, checkpoint: str) -> bool:
    if _is_locked(stage.lock_file) or not all(path.exists() for path in stage.dependencies()):
        return True
    finished = stage.output.exists() and stage.lock_file.exists() and stage.lock_file.read_text().endswith(stage.key)
    return checkpoint.startswith(stage.checkpoint.stem) and not finished


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stage_of(job: Job) -> Stage | None:
    """The stage as its script would see itself, from its command in dvc.yaml; None of one that is no script of stages/.

    Users add stages of their own, with any command or several: they have no checkpoints.
    """
    if len(job.command) != 1 or not re.fullmatch(r"python -m stages\.\w+( --\S+ \S+)*", job.command[0]):
        return None
    module, *words = shlex.split(job.command[0])[2:]
    values = dict(zip((word[2:].replace("-", "_") for word in words[::2]), words[1::2], strict=True))
    if "output" not in values:
        return None
    paths = {name: Path(value) for name, value in values.items() if value.split("/")[0] in {"data", "results"}}
    paths["output"] = Path(values["output"])
    return Stage(module.rsplit(".", 1)[1], argparse.Namespace(**{**values, **paths}))


def main() -> None:
    lock = exclusive()
    try:
        params = load_params()
        present = Pipeline().jobs(without={VALIDATE})
    except PipelineError as error:
        raise UserError(f"dvc: {error}; allowed: what DVC can resolve") from None
    outputs = [output for job in present for output in job.outputs]
    names = {job.name for job in present}
    paths = [
        *obsolete_results(outputs, params),
        *(file for file in sorted(STAMPS.glob("*")) if file.name not in names),
        *obsolete_checkpoints(present),
    ]
    for path in paths:
        print(f"removing {path}")
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    print(f"{len(paths)} removed; the study's {len(present)} stages keep what they have")
    lock.close()


if __name__ == "__main__":
    stage_main(main)
