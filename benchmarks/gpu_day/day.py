"""What a machine with one GPU is asked, in order of worth: `python -m benchmarks.gpu_day` (see README.md beside it).

    python -m benchmarks.gpu_day --list                      the jobs
    python -m benchmarks.gpu_day --minutes 9                 go on where the last call stopped, for nine minutes
    python -m benchmarks.gpu_day --only speed checks         these jobs alone, again where they failed
    python -m benchmarks.gpu_day --device cpu --miniature    everything as small as it can be, to see that it runs

Needs torch, torchvision, pandas, scikit-learn, matplotlib, tensorboard, safetensors, Pillow, PyYAML, Jinja2, pydantic.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu_day import carry
from benchmarks.gpu_day.jobs import JOBS, Job
from benchmarks.gpu_day.networks import best_sharing
from benchmarks.gpu_day.results import Day, Results, run_parts
from tailnas.foundation.errors import UserError

GRACE = 20
"""Seconds after its deadline in which a job may end by itself."""


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.list:
        print("\n".join(f"{job.name:10} {job.minutes:>2.0f} min  {job.what}" for job in JOBS))
        return 0
    try:
        begun = time.time()
        if args.came_back is not None:
            carry.unpack(args.came_back, args.folder)
        results = Results(args.folder)
        results.read()
        device = chosen_device(args.device)
        call: dict[str, Any] = {
            "begun": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(device),
            "jobs": [],
        }
        for job in order(results, args.only):
            left = 60 * args.minutes - (time.time() - begun)
            if left < 2:
                break
            at_once = args.at_once or best_sharing(results.job("sharing")["results"])
            deadline = time.time() + min(60 * job.minutes, left)
            day = Day(
                args.folder.absolute(), device, args.miniature, absolute(args.photographs), absolute(args.source),
                1 if args.miniature else at_once, deadline,
            )  # fmt: skip
            run_job(job, day, results)
            call["jobs"].append(job.name)
        results.add_call({**call, "seconds": round(time.time() - begun, 1)})
        print(report(results))
        if args.output is not None:
            carry.pack(args.folder, args.output)
    except UserError as error:
        sys.exit(str(error))
    return int(any(results.job(job.name)["state"] == "failed" for job in JOBS))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [job.name for job in JOBS]
    parser.add_argument("--list", action="store_true", help="print the jobs and end")
    parser.add_argument("--only", nargs="+", choices=names, metavar="JOB", help=f"some of {', '.join(names)}")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call (default 9)")
    parser.add_argument("--folder", type=Path, default=Path("gpu-day"), help="results, checkpoints (default gpu-day)")
    parser.add_argument("--output", type=Path, help="at the end, copy the results and what the next call needs here")
    parser.add_argument("--came-back", type=Path, help="the folder of --output of an earlier call on another machine")
    parser.add_argument("--photographs", type=Path, help="CIFAR-10-LT as benchmarks.photographs packs it")
    parser.add_argument("--source", type=Path, help="CIFAR-100, packed, for the study's pretraining")
    parser.add_argument("--at-once", type=int, default=0, help="networks that share the card (default: as measured)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--miniature", action="store_true", help="everything as small as it can be")
    args = parser.parse_args(arguments)
    if args.minutes <= 0 or args.at_once < 0:
        parser.error(f"--minutes {args.minutes}, --at-once {args.at_once}; allowed: more than 0, from 0")
    return args


def absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def chosen_device(name: str) -> str:
    """Raises UserError for a GPU that is not there, and for a CPU that nobody asked for."""
    import torch

    if name == "cpu":
        return name
    if not torch.cuda.is_available():
        raise UserError(f"--device: {name!r} without a GPU; allowed: cpu, best with --miniature")
    return "cuda"


def machine(device: str) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_properties(0) if device == "cuda" else None
    return {
        "device": device if gpu is None else gpu.name,
        "memory": 0 if gpu is None else gpu.total_memory,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "python": platform.python_version(),
    }


def order(results: Results, only: list[str] | None) -> list[Job]:
    """The jobs that are not done, those that failed last."""
    wanted = [job for job in JOBS if only is None or job.name in only]
    states = {job.name: results.job(job.name)["state"] for job in wanted}
    left = [job for job in wanted if states[job.name] != "done"]
    return sorted(left, key=lambda job: states[job.name] == "failed")


def run_job(job: Job, day: Day, results: Results) -> None:
    """In a process of its own, so that one that crashes or hangs takes nothing with it."""
    print(f"{job.name}: {job.what}, {day.seconds_left / 60:.1f} min at most", flush=True)
    log = day.folder / "logs" / f"{job.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=job_process, args=(job.name, day, log, os.getpid()))
    process.start()
    process.join(day.seconds_left + GRACE)
    late = process.is_alive()
    if process.pid is not None and late:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    state = results.job(job.name)
    if process.exitcode and not late:
        state["state"] = "failed"
        state["errors"]["process"] = f"ended with {process.exitcode}; see {log.relative_to(day.folder)}"
    elif not late:
        state["errors"].pop("process", None)
    results.update_job(job.name, state)
    print(f"{job.name}: {state['state']}" + "".join(f"\n  {k}: {e}" for k, e in state["errors"].items()), flush=True)


def job_process(name: str, day: Day, log: Path, parent: int) -> None:
    """A job, its output in `log`, in a group of processes that ends as a whole, at the latest with its parent."""
    os.setpgid(0, 0)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    (job,) = (job for job in JOBS if job.name == name)
    run_parts(name, job.parts(day), day, Results(day.folder))


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def report(results: Results) -> str:
    """Ten lines: the machine, and what is known of each job."""
    document = results.read()
    last = document["calls"][-1]["machine"]
    lines = [f"{last['device']}, torch {last['torch']}; {results.path}: {len(document['calls'])} calls"]
    for job in JOBS:
        state = results.job(job.name)
        begun = job.name in document["jobs"]
        headline = job.headline(state["results"]) if state["results"] else ""
        errors = "; ".join(f"{key}: {error}" for key, error in state["errors"].items())
        known = " | ".join(filter(None, [headline, errors[:200]]))
        lines.append(f"{job.name:10} {state['state'] if begun else 'to do':6} {state['seconds']:6.0f} s  {known}")
    return "\n".join(lines)
