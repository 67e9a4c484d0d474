"""Every kind of file damaged in every way: put right, or refused in a line; never used in silence, no traceback."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.pipeline.project import Project
from tests.pipeline.stage_process import Ended, run_stage

from .conftest import COMMANDS, STAGES, Undisturbed

pytestmark = pytest.mark.faults


def flipped(path: Path) -> None:
    """One seeded bit; size and time stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    writable(path).write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def cut(tenth: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(writable(path), path.stat().st_size * tenth // 10)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flipped,
    **{f"cut to {tenth} tenths": cut(tenth) for tenth in range(10)},
    "a folder": as_folder,
}


@pytest.fixture
def project(undisturbed: Undisturbed, tmp_path: Path):
    copy = undisturbed.project.copy(tmp_path / "project")
    yield copy
    copy.end_processes()


def files(project: Project, *folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((project.root / folder).rglob("*")) if path.is_file()]


def assert_put_right(project: Project, before: dict[str, str], engine: str) -> None:
    done = project.run(*COMMANDS[engine], status=None)
    assert "Traceback" not in done.stdout, done.stdout[-6000:]
    assert done.returncode == 0, done.stdout[-6000:]
    assert project.outputs() == before
    assert project.is_clean()


@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("kind", DAMAGE)
def test_outputs(undisturbed, project, kind, engine):
    """All of them at once. DVC goes by size and time: a flipped bit is seen where the time tells of it."""
    for path in files(project, "data/raw", "data/splits", "results"):
        if path.stat().st_size:
            DAMAGE[kind](path)
            os.utime(path)
    assert_put_right(project, undisturbed.outputs, engine)


@pytest.mark.parametrize("engine", ["study", "dvc"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_cache(undisturbed, project, kind, engine):
    """Every file of the cache, run cache included, while the outputs of half of the stages are away.

    Plain DVC may stop at an entry of the run cache that is cut; `make study` then goes on.
    """
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    for stage in list(STAGES)[::2]:
        for out in lock[STAGES[stage]]["outs"]:
            path = project.root / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in files(project, ".dvc/cache"):
        if path.stat().st_size:
            DAMAGE[kind](path)
    if engine == "dvc":
        done = project.run(*COMMANDS[engine], status=None)
        assert "Traceback" not in done.stdout, done.stdout[-6000:]
        engine = "study"
    assert_put_right(project, undisturbed.outputs, engine)


@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock", ".tailnas"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_records(undisturbed, project, name, kind, engine):
    """What the engines note: plain DVC refuses what it cannot read, in words of its own; the others put it aside."""
    path = project.root / name
    if name == ".tailnas":
        damaged = files(project, ".tailnas")
    else:
        damaged = [path]
        if not path.exists():
            path.write_text('{"/nowhere/x": {"write": {"pid": 1, "cmd": "dvc repro"}}}')
    for file in damaged:
        if file.stat().st_size:
            DAMAGE[kind](file)
    if engine == "dvc":
        done = project.run(*COMMANDS[engine], status=None)
        assert "Traceback" not in done.stdout, done.stdout[-6000:]
        assert done.returncode == 0 or Path(name).name in done.stdout, done.stdout
        engine = "study"
    assert_put_right(project, undisturbed.outputs, engine)


def stage(project: Project, name: str, *, recorded: bool) -> Ended:
    """The script of one stage, as DVC starts it or by hand."""
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    words = shlex.split(lock[STAGES[name]]["cmd"])[3:]
    environment = {"DVC_STAGE": STAGES[name]} if recorded else {}
    return run_stage(project.root, name, *words, environment=environment)


READERS = ("split", "pretrain", "search", "derive", "retrain", "adapt", "calibrate", "evaluate", "report")


def inputs(project: Project, name: str) -> list[Path]:
    """Files that stages have written, on which `name` depends; one of each name."""
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    deps = [
        dep["path"] for dep in lock[STAGES[name]]["deps"] if dep["path"].startswith(("data/raw", "data/spl", "res"))
    ]
    paths = [project.root / dep for dep in deps]
    found = (file for path in paths for file in ([path] if path.is_file() else files(project, str(path))))
    return list({file.name: file for file in found}.values())


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_of_an_input_is_never_used(undisturbed, project, name):
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    (output,) = [out["path"] for out in lock[STAGES[name]]["outs"]]
    before = project.outputs()
    for file in inputs(project, name):
        sound = file.read_bytes()
        flipped(file)
        ended = stage(project, name, recorded=True)
        assert ended.status == 1, (file, ended)
        assert len(ended.err.splitlines()) == 1 and "is not what dvc.lock records" in ended.err, ended.err
        file.write_bytes(sound)
    assert project.outputs() == before and output


@pytest.mark.parametrize("name", READERS)
def test_an_input_that_is_not_whole_is_refused_by_the_stage_itself(undisturbed, project, name):
    before = project.outputs()
    for file in inputs(project, name):
        sound = file.read_bytes()
        for kind, damage in DAMAGE.items():
            if kind == "flipped" or not sound:
                continue
            damage(file)
            ended = stage(project, name, recorded=False)
            assert "Traceback" not in ended.err, (file, kind, ended.err)
            same = {path: digest for path, digest in project.outputs().items() if project.root / path != file}
            assert same == {path: digest for path, digest in before.items() if project.root / path != file}, (
                file,
                kind,
            )
            if ended.status:
                assert len(ended.err.strip().splitlines()) == 1, (file, kind, ended.err)
            file.rmdir() if file.is_dir() else file.unlink()
            file.write_bytes(sound)


def test_checkpoints(undisturbed, project, tmp_path):
    """Each only costs time, but for a folder, which no writing replaces."""
    project.forget("results/runs/bbn_hls-10-0-0/retrain")
    folder = project.root / ".tailnas" / "checkpoints"
    command = project.start(COMMANDS["study"], tmp_path / "killed.log")
    while not (found := list(folder.glob("retrain-*.pt"))) and command.poll() is None:
        time.sleep(0.001)
    project.end_processes()
    command.wait()
    (checkpoint,) = found
    sound = checkpoint.read_bytes()
    for kind, damage in DAMAGE.items():
        checkpoint.write_bytes(sound)
        damage(checkpoint)
        ended = stage(project, "retrain", recorded=False)
        assert "unreadable checkpoint" in ended.out, (kind, ended)
        if kind == "a folder":
            assert ended.status == 1 and ended.err.startswith(f"{checkpoint.relative_to(project.root)}: Is a dir"), (
                ended
            )
        else:
            assert ended.status == 0 and project.outputs() == undisturbed.outputs, (kind, ended)
        if checkpoint.is_dir():
            checkpoint.rmdir()


def test_parameters(undisturbed, project):
    """Cut anywhere, or with any of 60 bits flipped: valid, or refused by lines that name file and key."""
    path = project.root / "params.yaml"
    sound = path.read_bytes()
    places = random.Random(0).sample(range(8 * len(sound)), 60)
    flips = [bytes(b ^ (1 << place % 8 if i == place // 8 else 0) for i, b in enumerate(sound)) for place in places]
    for text in [*flips, *(sound[: len(sound) * tenth // 10] for tenth in range(10))]:
        path.write_bytes(text)
        ended = run_stage(project.root, "validate", "--check")
        assert ended.status in (0, 1) and "Traceback" not in ended.err, ended.err
        assert all(line.startswith(("params.yaml:", "data: ")) for line in ended.err.splitlines()), ended.err
        assert bool(ended.status) == bool(ended.err)
    as_folder(path)
    ended = run_stage(project.root, "validate", "--check")
    assert ended.status == 1 and ended.err.startswith("params.yaml: ") and len(ended.err.splitlines()) == 1
