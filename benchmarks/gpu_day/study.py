"""A whole study by the pipeline's own stage scripts, several on one card at once, without DVC or Snakemake.

dvc.yaml says what there is to run. A stage is ready when what it reads is there, and done when its output is: outputs
come whole or not at all, and checkpoints let an interrupted stage go on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.gpu_day.data import PRESET, noise, photographs
from benchmarks.gpu_day.results import Day, OutOfTime, Part
from benchmarks.photographs import unpack
from tailnas.data.dataset import save
from tailnas.foundation.settings import NATURAL
from tailnas.foundation.yaml_file import read_yaml
from tailnas.genotype.found import FOUND
from tailnas.validate.parameters import checked_params
from tailnas.validate.presets import preset_file, whole_document

ROOT = Path(__file__).parents[2]
LINKED = "dvc.yaml", "stages", "tailnas"
GIVEN = "validate", "watch", "fetch", "report"
"""Stages whose work is done here: parameters are checked, images unpacked; tables are made from results.json."""
METHODS = (
    "resnet32",
    "random",
    "darts",
    "bbn_hls",
    "darts_resample",
    "darts_reweight",
    "bbn",
    "darts_v2",
    "imb_nas",
)
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class StageRun:
    """stage: its name in dvc.yaml. values: of its matrix. deps, outs: paths."""

    stage: str
    name: str
    command: str
    values: Mapping[str, str]
    deps: tuple[str, ...]
    outs: tuple[str, ...]


def parts(day: Day) -> dict[str, Part]:
    return {"runs": Part(lambda known, note: run_study(day, known, note), 20)}


def document(day: Day) -> dict[str, Any]:
    """params.yaml of the study: the preset on the long-tailed photographs as they are, with METHODS and five seeds.

    Without a source to pretrain on, searches start from random weights, and methods that rank pretrained paths are left
    out.
    """
    params: dict[str, Any] = whole_document(preset_file(PRESET))
    study = {"methods": list(METHODS), "imbalance_factors": [NATURAL], "seeds": list(SEEDS), "retrain_seeds": [0]}
    params["study"] = study
    params["runtime"] = {"device": day.device, "threads": 1, "progress": "lines", "cuda_graph": True}
    params["split"] = {
        "profile": NATURAL,
        "class_order": "given",
        "n_max": None,
        "folds": None,
    }  # the photographs are long-tailed
    if day.source is None:
        params["search"]["bilevel"]["initialisation"] = "scratch"
        study["methods"] = [name for name in METHODS if name != "imb_nas"]
    if day.miniature:
        study |= {"methods": ["darts"], "seeds": [0]}
        params["space"] = {"channels": 2, "cells": 3}
        params["retrain"]["network"] |= {"channels": 2, "parameters": None, "cells": 3, "auxiliary_weight": 0.0}
        for section in (params["search"], params["retrain"], params["adapt"]):
            section["training"] |= {"epochs": 1, "batch_size": 8}
    checked_params(params, PRESET)
    return params


def prepare_folder(day: Day, params: Mapping[str, Any]) -> Path:
    """A project folder in which the stage scripts run."""
    folder = day.folder / "study"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(json.dumps(params, indent=1) + "\n", encoding="utf-8")
    for name in LINKED:
        link = folder / name
        if not link.is_symlink() or link.resolve() != ROOT / name:
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / name)
    data = params["data"]
    for chosen, load in ((data["target"], lambda: photographs(day)), (data["source"], lambda: _source(day))):
        raw = folder / "data" / "raw" / chosen["name"]
        if not (raw / "meta.json").exists():
            save(load(), raw)
    for note in ("params.ok", "watched/packages"):
        (folder / "data" / note).parent.mkdir(exist_ok=True)
        (folder / "data" / note).write_text("")
    if day.source is None:
        for seed in params["study"]["seeds"]:
            (folder / "results" / "pretrain" / f"seed{seed}").mkdir(parents=True, exist_ok=True)
    return folder


def _source(day: Day) -> Any:
    return noise(day, "source") if day.source is None else unpack(day.source)


def stage_runs(declared: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[StageRun]:
    """The stages of dvc.yaml for every combination of their matrices, in the order of the file.

    Of two that differ in seed, the smaller comes first, so that seeds are finished one after the other.
    """

    def value(key: str) -> Any:
        found: Any = params
        for part in key.split("."):
            found = found[part]
        return found

    for stage, declaration in declared.items():
        if stage in GIVEN:
            continue
        matrix = {
            name: value(text.removeprefix("${").removesuffix("}")) if isinstance(text, str) else text
            for name, text in declaration.get("matrix", {}).items()
        }
        for chosen in product(*matrix.values()):
            values = dict(zip(matrix, map(str, chosen), strict=True))
            key = "-".join(values.values())

            def resolved(text: str, values: Mapping[str, str] = values, key: str = key) -> str:
                def known(match: re.Match[str]) -> str:
                    name = match[1]
                    if name == "key":
                        return key
                    return values[name.removeprefix("item.")] if name.startswith("item.") else str(value(name))

                return re.sub(r"\$\{([^}]+)\}", known, text)

            yield StageRun(
                stage,
                f"{stage}@{key}",
                resolved(declaration["cmd"]),
                values,
                tuple(map(resolved, declaration["deps"])),
                tuple(map(resolved, declaration["outs"])),
            )


def next_runs(runs: Sequence[StageRun], folder: Path, running: Sequence[str]) -> list[StageRun]:
    """Those that are ready: the smallest seed first, and of a seed those nearest to the end."""
    ready = [
        run
        for run in runs
        if run.name not in running
        and not all((folder / out).exists() for out in run.outs)
        and all((folder / dep).exists() for dep in run.deps)
    ]
    stages = list(dict.fromkeys(run.stage for run in runs))
    return sorted(ready, key=lambda run: (int(run.values.get("seed", 0)), -stages.index(run.stage)))


def run_study(day: Day, known: Any, note: Callable[[Any], None]) -> dict[str, Any]:
    """Run what is not done of the study, `day.at_once` stages at a time. Raises OutOfTime; running stages are ended.

    A stage is begun only where the longest of its kind so far would end in time.
    """
    params = document(day)
    folder = prepare_folder(day, params)
    runs = list(stage_runs(read_yaml(ROOT / "dvc.yaml")["stages"], params))
    longest: dict[str, float] = dict((known or {}).get("longest", {}))
    failed: dict[str, str] = {}
    running: dict[str, tuple[StageRun, subprocess.Popen[bytes], float]] = {}
    try:
        while True:
            for name, (run, process, begun) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                if process.returncode:
                    failed[name] = _last_line(_log(folder, name))
                else:
                    longest[run.stage] = max(longest.get(run.stage, 0.0), round(time.time() - begun, 1))
                note(summary(folder, runs, longest, failed))
            ready = [run for run in next_runs(runs, folder, list(running)) if run.name not in failed]
            in_time = [run for run in ready if longest.get(run.stage, 5.0) < day.seconds_left]
            if day.seconds_left <= 0 or (ready and not in_time and not running):
                raise OutOfTime
            for run in in_time[: max(0, max(1, day.at_once) - len(running))]:
                running[run.name] = (run, _started(run, folder), time.time())
            if not running:
                break
            time.sleep(0.2)
    finally:
        for _, process, _ in running.values():
            process.kill()
            process.wait()
        note(summary(folder, runs, longest, failed))
    if failed:
        raise RuntimeError("; ".join(f"{name}: {line}" for name, line in failed.items()))
    return summary(folder, runs, longest, failed)


def _log(folder: Path, name: str) -> Path:
    return folder / "logs" / "stages" / f"{name}.txt"


def _started(run: StageRun, folder: Path) -> subprocess.Popen[bytes]:
    log = _log(folder, run.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    python, *rest = run.command.split()
    assert python == "python", run.command
    with log.open("wb") as stream:
        return subprocess.Popen([sys.executable, *rest], cwd=folder, stdout=stream, stderr=subprocess.STDOUT)


def _last_line(log: Path) -> str:
    return (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"])[-1][:300]


def summary(
    folder: Path, runs: Sequence[StageRun], longest: Mapping[str, float], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Metrics of every finished run, what its search cost and found, and how far the study is."""
    finished = {}
    for run in runs:
        (out,) = run.outs
        if run.stage == "evaluate" and (folder / out).exists():
            key = "-".join(run.values[name] for name in ("method", "imbalance_factor", "seed"))
            searched = folder / "results" / "runs" / key
            search = searched / "search"
            finished[run.name.removeprefix("evaluate@")] = {
                "metrics": json.loads((folder / out / "metrics.json").read_text()),
                "cost": _json(search / "cost.json"),
                "genotype": _json(searched / "derive" / "genotype.json"),
                "last_epoch": _last_row(search / "history.csv"),
                "found": sorted(path.name for path in (search / FOUND).glob("*")),
            }
    stages = {
        stage: [sum((folder / run.outs[0]).exists() for run in runs if run.stage == stage), count]
        for stage, count in _counted(run.stage for run in runs).items()
    }
    return {"stages_done_of": stages, "longest": dict(longest), "failed": dict(failed), "runs": finished}


def _counted(names: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _last_row(path: Path) -> dict[str, str]:
    import csv

    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return dict(list(csv.DictReader(stream))[-1])


def headline(results: Mapping[str, Any]) -> str:
    found = results.get("runs", {})
    by_method: dict[str, list[float]] = {}
    for name, run in found.get("runs", {}).items():
        by_method.setdefault(name.split("-")[0], []).append(100 * run["metrics"]["retrained"]["balanced_accuracy"])
    shown = ", ".join(f"{method} {mean(values):.1f} ({len(values)})" for method, values in by_method.items())
    return f"{sum(map(len, by_method.values()))} runs; balanced accuracy (seeds) {shown}" if shown else "no run done"
