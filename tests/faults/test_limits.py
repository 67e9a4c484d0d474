"""Full disks, read-only folders, little memory, few open files: a line that says so, and the same command goes on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.pipeline.project import Project

from .conftest import COMMANDS, STAGES, Undisturbed
from .test_kills import own_tracebacks

pytestmark = pytest.mark.faults

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0, reason="a full or read-only disk is tried on a mounted one, and only root may mount"
)
FULL = "No space left|this disk's free space|disk I/O error|disk is full"
"""What a full disk is called, the last two by DVC's data base. Snakemake may have a traceback of its own."""
FORGOTTEN = ("fetch", "pretrain", "retrain", "report")


def forget(project: Project) -> None:
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    project.forget(*(out["path"] for name in FORGOTTEN for out in lock[STAGES[name]]["outs"]))


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        assert "superuser" in done.stderr or "permi" in done.stderr, done.stderr
        pytest.skip(
            f"only a mounted disk can be full or read-only for root, and mounting is refused: {done.stderr.strip()}"
        )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@needs_mounts
@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("kilobytes", [0, 32, 256, 1024])
def test_a_full_disk(undisturbed: Undisturbed, tmp_path: Path, engine: str, kilobytes: int) -> None:
    """With that much space left for the outputs of four stages; then with enough."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=1g", "tmpfs"):
        project = undisturbed.project.copy(disk / "project")
        shutil.rmtree(disk / "cache", ignore_errors=True)
        forget(project)
        used = shutil.disk_usage(disk).used
        subprocess.run(["mount", "-o", f"remount,size={used // 1024 + kilobytes}k", str(disk)], check=True)
        done = project.run(*COMMANDS[engine], status=None)
        assert not own_tracebacks(done.stdout, project.root), done.stdout[-6000:]
        assert done.returncode == 0 or re.search(FULL, done.stdout), done.stdout[-6000:]
        assert "disk: No space" not in done.stdout, "no folder is named"
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        done = project.run(*COMMANDS["study" if engine == "dvc" else engine], status=None)
        assert done.returncode == 0, done.stdout[-6000:]
        assert project.outputs() == undisturbed.outputs
        assert project.leftovers() == []
        project.end_processes()


@needs_mounts
@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("folder", ["data", "results", "logs", ".tailnas", ".dvc/tmp", ".dvc/cache", "."])
def test_a_folder_that_is_read_only(undisturbed: Undisturbed, tmp_path: Path, engine: str, folder: str) -> None:
    project = undisturbed.project.copy(tmp_path / "project")
    forget(project)
    path = project.root / folder
    with mounted(path, "--bind", str(path)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        done = project.run(*COMMANDS[engine], status=None)
        project.end_processes()
    assert "Traceback" not in done.stdout, done.stdout[-6000:]
    assert done.returncode == 0 or re.search("Read-only file system|Write-protected", done.stdout), done.stdout[-6000:]
    done = project.run(*COMMANDS["study"], status=None)
    assert done.returncode == 0, done.stdout[-6000:]
    assert project.outputs() == undisturbed.outputs


@pytest.mark.parametrize("limit", ["-v 400000", "-v 1000000", "-v 2000000", "-n 8", "-n 16", "-n 32", "-n 64"])
@pytest.mark.parametrize("name", ["fetch", "search", "report"])
def test_a_stage_with_little(undisturbed: Undisturbed, tmp_path: Path, name: str, limit: str) -> None:
    """Memory in KiB, or open files, without which a folder cannot even be emptied: the next run does it."""
    project = undisturbed.project.copy(tmp_path / "project")
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    command = lock[STAGES[name]]["cmd"]
    done = project.run("bash", "-c", f"ulimit {limit}; exec {command}", status=None)
    assert "Traceback" not in done.stdout, done.stdout[-6000:]
    assert done.returncode == 0 or "allowed: " in done.stdout.splitlines()[-1], done.stdout[-6000:]
    if project.leftovers():
        assert limit.startswith("-n")
        project.run("bash", "-c", command)
    assert project.outputs() == undisturbed.outputs
    assert project.leftovers() == []


@pytest.mark.parametrize("engine", COMMANDS)
@pytest.mark.parametrize("limit", ["-v 1500000", "-n 24", "-n 64"])
def test_an_engine_with_little(undisturbed: Undisturbed, tmp_path: Path, engine: str, limit: str) -> None:
    """It may end as it likes; afterwards the same command, without limits, ends well."""
    project = undisturbed.project.copy(tmp_path / "project")
    forget(project)
    project.run("bash", "-c", f"ulimit {limit}; exec {shlex.join(COMMANDS[engine])}", status=None)
    project.end_processes()
    done = project.run(*COMMANDS[engine], status=None)
    assert done.returncode == 0, done.stdout[-6000:]
    assert project.outputs() == undisturbed.outputs
