"""A pipeline run in parallel by one process that has DVC loaded, without any other engine."""

from __future__ import annotations

import heapq
import os
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bridge.command import Command
from bridge.interior import RUN, Pipeline, PipelineError
from bridge.plan import Job

NEEDS = Mapping[str, int]


@dataclass
class Progress:
    """What became of the stages, by name.

    waiting: how many there are. running: to when they began, by time.monotonic. done: in the order in which they ended.
    ran: to the seconds of the command, where it ran. failed: to its exit status, or what DVC says. skipped: those that
    read from a failed one.
    """

    waiting: int = 0
    running: dict[str, float] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    ran: dict[str, float] = field(default_factory=dict)
    failed: dict[str, int | str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


@dataclass
class Schedule:
    """How to run jobs.

    limits: how much there is of each resource. needs: how much a job takes. environment: of a job's command, when it
    starts; released: called with it when the command has ended. output: where both its streams go, None for this
    process's own. changed: called after every change, and every second. worker, modules: as Command takes them.
    """

    pipeline: Pipeline
    limits: NEEDS
    needs: Callable[[Job], NEEDS]
    environment: Callable[[Job], Mapping[str, str]] = lambda job: os.environ
    released: Callable[[Job, Mapping[str, str]], None] = lambda job, environment: None
    output: Callable[[Job], IO[bytes] | None] = lambda job: None
    changed: Callable[[Progress], None] = lambda progress: None
    worker: Callable[[], str | None] = lambda: None
    modules: str = ""
    keep_going: bool = True

    def run(self, jobs: Iterable[Job]) -> Progress:
        """Run all that is not done, each after those that it reads from.

        KeyboardInterrupt kills the commands and goes on to the caller.
        """
        return _Run(self, [job for job in jobs if not job.done]).run()


class _Run:
    """One run of a schedule."""

    def __init__(self, schedule: Schedule, todo: list[Job]) -> None:
        self.schedule = schedule
        todo = _deepest_first(todo)
        self.place = {job.name: place for place, job in enumerate(todo)}
        self.todo = todo
        self.before = {job.name: {name for name in job.after if name in self.place} for job in todo}
        self.followers: defaultdict[str, list[str]] = defaultdict(list)
        for name, before in self.before.items():
            for other in before:
                self.followers[other].append(name)
        self.ready = [self.place[name] for name, before in self.before.items() if not before]
        self.used: Counter[str] = Counter()
        self.progress = Progress(waiting=len(todo))
        self.commands: dict[str, tuple[Command, Mapping[str, str], IO[bytes] | None]] = {}
        self.ended: queue.SimpleQueue[tuple[Job, int]] = queue.SimpleQueue()

    def run(self) -> Progress:
        schedule, progress = self.schedule, self.progress
        try:
            while self.ready or progress.running:
                if schedule.keep_going or not progress.failed:
                    self._start_what_fits()
                elif not progress.running:
                    break
                if not progress.running:
                    continue
                try:
                    self._finish(*self.ended.get(timeout=1))
                except queue.Empty:
                    schedule.pipeline.flush()
                schedule.changed(progress)
        finally:
            for command, _, _ in self.commands.values():
                command.kill()
            for name in self.commands:
                schedule.pipeline.drop(name)
            schedule.pipeline.flush()
        return progress

    def _start_what_fits(self) -> None:
        """Begin ready jobs, the deepest first, until nothing is left that fits."""
        too_large = []
        cores = self.schedule.limits.get("cores")
        while self.ready and (cores is None or self.used["cores"] < cores):
            place = heapq.heappop(self.ready)
            job = self.todo[place]
            needs = self.schedule.needs(job)
            if any(self.used[what] + amount > self.schedule.limits.get(what, amount) for what, amount in needs.items()):
                too_large.append(place)
                continue
            self.progress.waiting -= 1
            self._begin(job, needs)
            self.schedule.changed(self.progress)
        for place in too_large:
            heapq.heappush(self.ready, place)

    def _begin(self, job: Job, needs: NEEDS) -> None:
        schedule = self.schedule
        try:
            if schedule.pipeline.begin(job.name) != RUN:
                self._done(job.name)
                return
        except PipelineError as error:
            self._failed(job.name, str(error))
            return
        self.used.update(needs)
        environment, out = schedule.environment(job), schedule.output(job)
        command = Command(job, str(Path.cwd()), environment, schedule.worker(), schedule.modules)
        self.commands[job.name] = command, environment, out
        self.progress.running[job.name] = time.monotonic()
        threading.Thread(target=lambda: self.ended.put((job, command.run(out))), daemon=True).start()

    def _finish(self, job: Job, status: int) -> None:
        _, environment, out = self.commands.pop(job.name)
        seconds = time.monotonic() - self.progress.running.pop(job.name)
        if out:
            out.close()
        self.schedule.released(job, environment)
        self.used.subtract(self.schedule.needs(job))
        if status:
            self.schedule.pipeline.drop(job.name)
            self._failed(job.name, status)
            return
        try:
            self.schedule.pipeline.end(job.name)
        except PipelineError as error:
            self._failed(job.name, str(error))
            return
        self.progress.ran[job.name] = seconds
        self._done(job.name)

    def _done(self, name: str) -> None:
        self.progress.done.append(name)
        for follower in self.followers[name]:
            self.before[follower].discard(name)
            if not self.before[follower] and follower not in self.progress.skipped:
                heapq.heappush(self.ready, self.place[follower])

    def _failed(self, name: str, reason: int | str) -> None:
        self.progress.failed[name] = reason
        above = list(self.followers[name])
        while above:
            follower = above.pop()
            if follower not in self.progress.skipped:
                self.progress.skipped.append(follower)
                self.progress.waiting -= 1
                above += self.followers[follower]


def _deepest_first(jobs: list[Job]) -> list[Job]:
    """What has the longest way behind it first, else in the order given: runs are finished before others are begun."""
    depth: dict[str, int] = {}
    for job in jobs:  # each after those that it reads from
        depth[job.name] = 1 + max((depth[name] for name in job.after if name in depth), default=0)
    return sorted(jobs, key=lambda job: -depth[job.name])
