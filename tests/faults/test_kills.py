"""A hundred kills at seeded moments: after the same command again everything is as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from tests.pipeline.project import PATIENCE, Project

from .conftest import COMMANDS, STAGES, Undisturbed

pytestmark = pytest.mark.faults

KILLS = 100
MOMENTS = ("start", "work", "epoch", "writing", "commit")
TRAINED = ("pretrain", "search", "retrain", "adapt", "calibrate")
VICTIMS = ("engine", "stage", "group", "everything")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Kill:
    """One kill: of whom, by what, when; late: seconds after that moment."""

    victim: str
    signal: signal.Signals
    moment: str
    late: float

    def __str__(self) -> str:
        return f"{self.moment} {self.late:.2f} s {self.victim} {self.signal.name}"


@dataclass(frozen=True)
class Case:
    """Kills of one command, each of the same command again, while it computes `stage`."""

    engine: str
    stage: str
    kills: tuple[Kill, ...]


def drawn() -> list[Case]:
    """Cases with KILLS kills in all: every stage under every engine, every victim, signal and moment."""
    random_ = random.Random(17)
    cases: list[Case] = []
    left = KILLS
    while left:
        round_, place = divmod(len(cases), len(STAGES))
        engine, stage = list(COMMANDS)[(place + round_) % len(COMMANDS)], list(STAGES)[place]
        kills = []
        for _ in range(min(left, 2 if len(cases) % 3 == 2 - len(cases) // 3 % 3 else 1)):
            moment = MOMENTS[random_.randrange(len(MOMENTS))]
            if stage in ("validate", "watch") or (moment == "epoch" and stage not in TRAINED):
                moment = random_.choice(("start", "commit"))
            late = random_.uniform(0, {"start": 6.0, "epoch": 0.3, "writing": 0.0}.get(moment, 0.5))
            kills.append(Kill(random_.choice(VICTIMS), random_.choice(SIGNALS), moment, late))
        cases.append(Case(engine, stage, tuple(kills)))
        left -= len(kills)
    return cases


@pytest.mark.parametrize(
    "case", drawn(), ids=lambda case: f"{case.engine}, {case.stage}, {' + '.join(map(str, case.kills))}"
)
def test_a_kill_leaves_no_trace(undisturbed: Undisturbed, tmp_path: Path, case: Case) -> None:
    project = undisturbed.project.copy(tmp_path / "project")
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    outputs = [out["path"] for out in lock["stages"][STAGES[case.stage]]["outs"]]
    project.forget(*outputs)
    said = ""
    try:
        for number, kill in enumerate(case.kills):
            said += killed(project, case, project.root / outputs[0], kill, tmp_path / f"{number}.log")
        done = project.run(*COMMANDS[case.engine], status=None)
        said += done.stdout
        if (
            done.returncode
            and case.engine == "dvc"
            and re.search(r"dvc\.lock|rwlock|Unable to acquire lock", done.stdout)
        ):
            print("plain DVC needs help:", done.stdout[-300:])
            done = project.run(*COMMANDS["study"], status=None)  # what docs/engines.md says of plain DVC
            said += done.stdout
        assert done.returncode == 0, said[-6000:]
        assert project.outputs() == undisturbed.outputs
        assert yaml.safe_load((project.root / "dvc.lock").read_text()) == lock
        assert project.leftovers() == []
        assert not list((project.root / ".tailnas" / "checkpoints").glob("*"))
        assert not own_tracebacks(said, project.root), said[-6000:]
    finally:
        project.end_processes()


@pytest.mark.parametrize("moment", range(20))
def test_make_study_goes_on_after_everything_was_killed(undisturbed: Undisturbed, tmp_path: Path, moment: int) -> None:
    """kill -9, in the twentieth `moment` of the whole study's time, at a place drawn by a seed."""
    project = undisturbed.project.copy(tmp_path / "project")
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    for folder in ("data/raw", "data/splits", "results", "logs", ".tailnas", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project.root / folder, ignore_errors=True)
    (project.root / "dvc.lock").unlink()
    try:
        command = project.start(COMMANDS["study"], tmp_path / "killed.log")
        late = undisturbed.taken * (moment + random.Random(moment).random()) / 20
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(late)
        for process in victims("everything", command, ""):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        command.wait(PATIENCE)
        said = project.run(*COMMANDS["study"]).stdout
        assert project.outputs() == undisturbed.outputs, said[-6000:]
        assert yaml.safe_load((project.root / "dvc.lock").read_text()) == lock
        assert project.leftovers() == []
        assert project.is_clean()
    finally:
        project.end_processes()


def killed(project: Project, case: Case, output: Path, kill: Kill, log: Path) -> str:
    """Run the command until the moment of the kill, and to its end; what it said."""
    command = project.start(COMMANDS[case.engine], log)
    wait_for(kill.moment, project.root, case.stage, output, command)
    time.sleep(kill.late)
    for process in victims(kill.victim, command, case.stage):
        try:
            process.send_signal(kill.signal)
        except psutil.NoSuchProcess:
            continue
    command.wait(PATIENCE)
    return log.read_text(errors="replace")


def wait_for(moment: str, root: Path, stage: str, output: Path, command: subprocess.Popen[bytes]) -> None:
    """Until the moment has come, or the command has ended: some moments are too short to be seen."""
    lock = root / ".tailnas" / "locks" / str(output.relative_to(root)).replace("/", "-")
    begun = lock.stat().st_mtime_ns if lock.exists() else 0

    def has_come() -> bool:
        if moment == "start":
            return True
        if moment == "work":
            return bool(stage_processes(command.pid, stage))
        if moment == "epoch":
            return bool(list((root / ".tailnas" / "checkpoints").glob(f"{stage}-*.pt")))
        if moment == "writing":
            return bool(list(output.parent.glob(f".{output.name}.*.tmp"))) or output.exists()
        return output.exists() and (not begun or lock.stat().st_mtime_ns != begun)

    deadline = time.monotonic() + PATIENCE
    while not has_come() and command.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02 if moment == "work" else 0.001)


def victims(name: str, command: subprocess.Popen[bytes], stage: str) -> list[psutil.Process]:
    try:
        engine = psutil.Process(command.pid)
        below = engine.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    if name == "group":
        return [process for process in [engine, *below] if group_of(process) == command.pid]
    if name == "everything":
        return [engine, *below]
    return (stage_processes(command.pid, stage) if name == "stage" else []) or [engine]


def group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def stage_processes(ancestor: int, stage: str) -> list[psutil.Process]:
    found = []
    try:
        for process in psutil.Process(ancestor).children(recursive=True):
            try:
                if process.cmdline()[1:3] == ["-m", f"stages.{stage}"]:
                    found.append(process)
            except psutil.Error:
                continue
    except psutil.NoSuchProcess:
        pass
    return found


def own_tracebacks(said: str, root: Path) -> list[str]:
    """Tracebacks that go through the project's own files: engines interrupted in their imports have others."""
    blocks = re.findall(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*", said)
    return [block for block in blocks if str(root) in block]
