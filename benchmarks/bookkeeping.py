"""What the engines cost beside the stages: CPU seconds and memory for pipelines of trivial stages.

    python -m benchmarks.bookkeeping 21 110 519 5000

A pipeline has the shape of a study: data, then search, derive, retrain, adapt and evaluate for each run, and a report,
each with folders of code and sections of parameters that it depends on. The stages only write a line. CPU seconds are
those of the engine and all that it starts, the stages' own shells included: they hardly depend on what else the machine
does. `dvc` is measured where that takes minutes: one stage by `dvc repro --single-item`, and the plan of all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.growth import exponent

ROOT = Path(__file__).parents[1]
KINDS = ("search", "derive", "retrain", "adapt", "evaluate")
FOLDERS, FILES = 12, 8
DVC_AT_MOST = 1000
"""Stages up to which DVC's own commands are timed."""

HEAD = """\
stages:
  data:
    cmd: mkdir -p out && echo data > out/data
    deps: [code/0]
    params: [data]
    outs: [out/data]
"""
STAGE = """\
  {kind}:
    matrix:
      run: ${{runs}}
    cmd: mkdir -p out/${{item.run}} && echo {kind} ${{item.run}} > out/${{item.run}}/{kind}
    deps: [{deps}]
    params: [{kind}]
    outs: ["out/${{item.run}}/{kind}"]
"""
REPORT = """\
  report:
    cmd: ls out | wc -l > report
    deps: [{deps}]
    params: [report]
    outs: [report]
"""
RUN = """
import json, resource, sys, time
from bridge.interior import Pipeline
from bridge.schedule import Schedule
def cpu():
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime
pipeline = Pipeline()
loaded = cpu()
jobs = pipeline.jobs()
planned = cpu()
progress = Schedule(pipeline, {"cores": 1}, lambda job: {"cores": 1}).run(jobs)
pipeline.close()
memory = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"stages": len(progress.ran), "load": loaded, "plan": planned - loaded, "run": cpu() - planned,
                  "memory": memory, "failed": len(progress.failed)}))
"""


def make(folder: Path, stages: int) -> int:
    """A pipeline of about `stages` stages in an empty folder; returns how many there are."""
    runs = max(1, round((stages - 2) / len(KINDS)))
    for room in range(FOLDERS):
        (folder / "code" / str(room)).mkdir(parents=True)
        for file in range(FILES):
            (folder / "code" / str(room) / f"{file}.py").write_text(f"x = {room * FILES + file}\n" * 200)
    code = [f"code/{room}" for room in range(FOLDERS)]
    text = HEAD
    for place, kind in enumerate(KINDS):
        before = f'"out/${{item.run}}/{KINDS[place - 1]}"' if place else "out/data"
        text += STAGE.format(kind=kind, deps=", ".join([before, *code]))
    text += REPORT.format(deps=", ".join([*code, *(f"out/r{run}/evaluate" for run in range(runs))]))
    (folder / "dvc.yaml").write_text(text)
    sections = "".join(f"{kind}: {{epochs: 1, rate: 0.1, names: [a, b, c]}}\n" for kind in ("data", *KINDS, "report"))
    (folder / "params.yaml").write_text(f"runs: [{', '.join(f'r{run}' for run in range(runs))}]\n{sections}")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True, env=environment(folder))
    return runs * len(KINDS) + 2


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    site = {"DVC_SITE_CACHE_DIR": f"{folder}-site", "DVC_NO_ANALYTICS": "1"}
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **site}


def timed(folder: Path, *command: str) -> tuple[float, float, str]:
    """CPU seconds of a command with all that it waits for, wall seconds, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began, done.stdout


def measure(size: int) -> dict[str, Any]:
    """One pipeline of about `size` stages through the bridge and, where that is quick enough, through DVC."""
    folder = Path(tempfile.mkdtemp(prefix="bookkeeping-"))
    try:
        project = folder / "project"
        stages = make(project, size)
        cpu, wall, said = timed(project, sys.executable, "-c", RUN)
        row: dict[str, Any] = {**json.loads(said.splitlines()[-1]), "cpu": cpu, "wall": wall}
        assert row["stages"] == stages and not row["failed"]
        row["nothing"], _, said = timed(project, sys.executable, "-c", RUN)
        assert json.loads(said.splitlines()[-1])["stages"] == 0
        row["clean"] = row["dvc nothing"] = row["dvc one"] = None
        if stages <= DVC_AT_MOST:
            row["clean"] = timed(project, "dvc", "status", "--json")[2].strip() == "{}"
            row["dvc nothing"] = timed(project, "dvc", "repro")[0]
            parameters = project / "params.yaml"
            parameters.write_text(parameters.read_text().replace("derive: {epochs: 1", "derive: {epochs: 2"))
            row["dvc one"] = timed(project, "dvc", "repro", "--single-item", "derive@r0")[0]
        return row
    finally:
        shutil.rmtree(folder)


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text, and the power of the number of stages with which each column grows."""
    heads = {
        "load": "load",
        "plan": "plan",
        "each": "per stage",
        "with": "with shells",
        "nothing": "nothing to do",
        "memory": "MiB",
        "dvc one": "DVC: a stage",
        "dvc nothing": "DVC: nothing",
    }
    for row in rows:
        row["each"], row["with"] = row["run"] / row["stages"], row["cpu"] / row["stages"]
    lines = ["stages  " + "  ".join(f"{head:>13}" for head in heads.values())]
    for row in rows:
        values = ("" if row[name] is None else f"{row[name]:.3f}" for name in heads)
        lines.append(f"{row['stages']:>6}  " + "  ".join(f"{value:>13}" for value in values))
    if len(rows) > 1:
        powers = []
        for name in heads:
            points = [(float(row["stages"]), row[name]) for row in rows if row[name] is not None]
            powers.append(f"{exponent(points):.2f}" if len(points) > 1 else "")
        lines.append("grows ^ " + "  ".join(f"{power:>13}" for power in powers))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bookkeeping", description=__doc__)
    parser.add_argument("stages", type=int, nargs="*", default=[21, 110, 519], help="sizes of pipelines")
    rows = []
    for size in parser.parse_args().stages:
        rows.append(measure(size))
        print(table(rows[-1:]), flush=True)
        if rows[-1]["clean"] is False:
            print("dvc status is not clean", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
