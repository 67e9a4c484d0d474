"""What the engines cost a study of many small runs, by the wall.

    python -m benchmarks.small_runs [--seeds 25] [--cores 2]

Computes the `smoke` preset with four methods and that many seeds from nothing, in a copy of this folder, by `python -m
workflow.study` with one thread per stage, and compares the time with the stages' own, divided by the cores. Python's
start and imports are no part of the stages' own time. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from tailnas.validate.presets import preset_file
from workflow.preset import preset_text
from workflow.verify import project_files

METHODS = ["darts", "bbn_hls", "random", "darts_v2"]


def make(folder: Path, seeds: int) -> None:
    """A copy of the project with the parameters of the study."""
    for name in project_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(Path(name).read_bytes())
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    params = yaml.safe_load(preset_text(preset_file("smoke").stem))
    params["study"] |= {"methods": METHODS, "seeds": list(range(seeds)), "imbalance_factors": [30]}
    params["runtime"] |= {"device": "cpu", "threads": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=25, help="runs of each of four methods")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailnas-small-runs-") as name:
        folder = Path(name)
        make(folder, args.seeds)
        started = time.monotonic()
        command = [sys.executable, "-m", "workflow.study", "--cores", str(args.cores)]
        subprocess.run(command, cwd=folder, check=True)
        wall = time.monotonic() - started
        own: Counter[str] = Counter()
        notes = list(folder.glob("logs/*/*/run.json"))
        for note in notes:
            own[note.parts[-3]] += json.loads(note.read_text())["seconds"]
    least = own.total() / args.cores
    print("\n".join(f"{seconds:8.1f} s  {stage}" for stage, seconds in own.most_common()))
    print(f"{len(METHODS) * args.seeds} runs, {len(notes)} stages: {wall:.0f} s on {args.cores} cores")
    print(f"the stages' own time is {least:.0f} s per core: {100 * (wall / least - 1):.0f} % is the engine's")


if __name__ == "__main__":
    main()
