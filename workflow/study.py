"""Compute the study of params.yaml, as many stages at once as there are cores.

    python -m workflow.study                    with one line of progress: `make study`
    python -m workflow.study --verbose          with all that the stages print: `make repro`
    python -m workflow.study --verbose --cores 1    one stage after the other
    python -m workflow.study --plan             what would be computed, and how long it took before

It is the shortest way: one process has DVC loaded, another torch, and stages are forks of that. What it leaves behind
is what `dvc repro` leaves. A stage that fails stops none but those that need it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO

from bridge.interior import PipelineError
from bridge.plan import Job
from bridge.schedule import Progress, Schedule
from workflow.card import VISIBLE, cards
from workflow.cost import known_seconds
from workflow.jobs import SCRIPTS
from workflow.kept import kept
from workflow.session import Session, exclusive, opened, stop

LOGS = Path("logs/study")
FAILURES = 10
"""Lines of failed stages that the summary shows at most."""


def kind(name: str) -> str:
    """Of `search@bbn-30-0`: `search`."""
    return name.partition("@")[0]


def earlier_seconds() -> dict[str, float]:
    """Mean seconds of each kind of stage, as the stages themselves have noted them in this folder."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for file in Path("logs").glob("*/*/run.json"):
        try:
            taken = float(json.loads(file.read_text())["seconds"])  # a kill may leave the file empty
            seconds[file.parts[1]].append(taken)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {name: statistics.fmean(values) for name, values in seconds.items()}


def estimate(todo: Iterable[Job], known: Mapping[str, float], cores: int) -> float | None:
    """Seconds for `todo`, side by side on `cores`; None while nothing is known of most of it."""
    counts = Counter(kind(job.name) for job in todo)
    if not counts:
        return 0.0
    with_time = {name: count for name, count in counts.items() if name in known}
    total = sum(known[name] * count for name, count in with_time.items())
    if 2 * sum(with_time.values()) < sum(counts.values()):
        return None
    return total * sum(counts.values()) / sum(with_time.values()) / cores


def spoken(seconds: float | None) -> str:
    """A length of time in the words of a person who waits."""
    if seconds is None:
        return "unknown time"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def plan_text(jobs: list[Job], cores: int, *, timed: bool = False) -> str:
    """How much there is to compute, and an estimate. timed: from a few timed steps where nothing was computed yet."""
    todo = [job for job in jobs if not job.done]
    if not todo:
        return f"{len(jobs)} stages, all up to date"
    counts = Counter(kind(job.name) for job in todo)
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    left = estimate(todo, _known(counts, timed), cores)
    told = "time unknown" if left is None else f"about {spoken(left)} on this machine"
    return f"{len(todo)} of {len(jobs)} stages to compute: {what}; {told}, {cores} at once"


def _known(kinds: Collection[str], timed: bool) -> dict[str, float]:
    return known_seconds(kinds, earlier_seconds()) if timed else earlier_seconds()


class Line:
    """One line of progress: written over on a terminal, and anew when a tenth more is done elsewhere."""

    def __init__(self, todo: list[Job], cores: int, *, timed: bool = False) -> None:
        self.todo = {job.name: job for job in todo}
        self.cores = cores
        self.terminal = sys.stderr.isatty()
        self.known = _known({kind(name) for name in self.todo}, timed)
        self.told = -1
        self.shown = 0.0

    def __call__(self, progress: Progress) -> None:
        ended = len(progress.done) + len(progress.failed) + len(progress.skipped)
        tenth = 10 * ended // max(len(self.todo), 1)
        now = time.monotonic()
        if (now - self.shown < 0.2 and ended < len(self.todo)) if self.terminal else tenth == self.told:
            return
        self.told, self.shown = tenth, now
        failed = f", {len(progress.failed)} failed" if progress.failed else ""
        left = self._left(progress)
        text = f"{len(progress.done)} done{failed}, {len(progress.running)} running, {progress.waiting} left, {left}"
        if self.terminal:
            print(f"\r{text[: shutil.get_terminal_size().columns - 1]}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _left(self, progress: Progress) -> str:
        own: defaultdict[str, list[float]] = defaultdict(list)
        for name, seconds in progress.ran.items():
            own[kind(name)].append(seconds)
        known = {**self.known, **{name: statistics.fmean(values) for name, values in own.items()}}
        over = {*progress.done, *progress.failed, *progress.skipped}
        left = estimate((job for name, job in self.todo.items() if name not in over), known, self.cores)
        return "time left unknown" if left is None else f"about {spoken(left)} left"

    def end(self) -> None:
        if self.terminal and self.shown:
            print(file=sys.stderr)


class Lines:
    """What stages that run at once print, line by line. A bar would be written over by the others: none is drawn."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def stream(self) -> IO[bytes]:
        """For one stage to write to."""
        ear, voice = os.pipe()
        self.threads.append(threading.Thread(target=self._pass_on, args=(ear,), daemon=True))
        self.threads[-1].start()
        return os.fdopen(voice, "wb")

    def _pass_on(self, ear: int) -> None:
        with os.fdopen(ear, "rb") as lines:
            for line in lines:
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()

    def end(self) -> None:
        for thread in self.threads:
            thread.join(1)  # a process that a stage has left behind may still hold the other end


class Cards:
    """One card for each job that needs one, where there are any."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.free = cards() if not session.device.startswith(("cpu", "cuda:")) else []
        self.limit = 1 if session.device.startswith("cuda:") else len(self.free)

    def environment(self, job: Job) -> dict[str, str]:
        own = {**os.environ, **self.session.environment()}
        if self.free and self.session.needs_card(job):
            own[VISIBLE] = self.free.pop()
        return own

    def released(self, job: Job, environment: Mapping[str, str]) -> None:
        if self.limit and not self.session.device.startswith("cuda:") and self.session.needs_card(job):
            self.free.append(environment[VISIBLE])


def compute(session: Session, cores: int, *, verbose: bool, timed: bool = False) -> Progress:
    """Run what is not done. verbose: what stages print goes to this process's own streams, and not to logs/study."""
    todo = [job for job in session.jobs if not job.done]
    divided, lines = Cards(session), Lines()
    at_once = max(1, cores // session.threads)

    def needs(job: Job) -> dict[str, int]:
        return {"cores": session.threads} | ({"card": 1} if divided.limit and session.needs_card(job) else {})

    def output(job: Job) -> IO[bytes] | None:
        if verbose:
            print("\n".join(f"> {line}" for line in job.command), flush=True)
            return lines.stream() if at_once > 1 else None
        LOGS.mkdir(parents=True, exist_ok=True)
        return (LOGS / f"{job.name}.log").open("wb")

    line = Line(todo, at_once, timed=timed)
    try:
        return Schedule(
            session.pipeline,
            limits={"cores": max(cores, session.threads), "card": divided.limit},
            needs=needs,
            environment=divided.environment,
            released=divided.released,
            output=output,
            changed=(lambda progress: None) if verbose else line,
            worker=lambda: session.worker.address if session.worker else None,
            modules=SCRIPTS,
        ).run(todo)
    finally:
        lines.end()
        if not verbose:
            line.end()


def summary(progress: Progress, seconds: float) -> str:
    """What became of it all, and the last line of each stage that failed."""
    lines = [
        f"{name}: {reason if isinstance(reason, str) else _last_line(name) or f'exit status {reason}'}"
        for name, reason in progress.failed.items()
    ]
    if len(lines) > FAILURES:
        lines = [*lines[:FAILURES], f"and {len(lines) - FAILURES} more, in {LOGS}"]
    restored = len(progress.done) - len(progress.ran)
    counts = [f"{len(progress.ran)} computed", f"{restored} restored from the cache" if restored else ""]
    counts += [f"{len(progress.failed)} failed"] if progress.failed else []
    counts += [f"{len(progress.skipped)} not begun, since they need a failed one"] if progress.skipped else []
    return "\n".join([*lines, f"{', '.join(filter(None, counts))}, in {spoken(seconds)}"])


def _last_line(name: str) -> str:
    try:
        return ([*(LOGS / f"{name}.log").read_text(errors="replace").split("\n")][-2:] or [""])[0].strip()
    except OSError:
        return ""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workflow.study", description="Compute the study of params.yaml.")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="stages at once x runtime.threads")
    parser.add_argument("--verbose", action="store_true", help="show what the stages print instead of one line")
    parser.add_argument("--plan", action="store_true", help="say what there is to compute, and compute nothing")
    args = parser.parse_args()
    if args.cores < 1:
        parser.exit(1, f"--cores: {args.cores}; allowed: an integer at least 1\n")
    return args


def main() -> int:
    args = arguments()
    lock = exclusive()
    session = opened(run=not args.plan)
    timed = args.plan or (sys.stderr.isatty() and not args.verbose)
    try:
        print(plan_text(session.jobs, max(1, args.cores // session.threads), timed=timed), flush=True)
        if args.plan or all(job.done for job in session.jobs):
            return 0
        began = time.monotonic()
        progress = compute(session, args.cores, verbose=args.verbose, timed=timed)
        print(summary(progress, time.monotonic() - began), flush=True)
        return 1 if progress.failed else 0
    except PipelineError as error:
        stop(f"dvc: {error}")
    finally:
        session.close()
        lock.close()


if __name__ == "__main__":
    started = time.time()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\n".join(["\ninterrupted", *kept(started), "the same command goes on from here"]), file=sys.stderr)
        sys.exit(130)
