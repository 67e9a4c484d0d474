"""A checkout of its own for a test, driven through the commands that a user types."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

REPOSITORY = Path(__file__).parents[2]
FILES = ("dvc.yaml", "requirements.lock", "Snakefile", ".dvcignore", ".gitignore")
FOLDERS = ("stages", "tailnas", "bridge", "workflow", "presets", "profiles")
PATIENCE = 560
"""Seconds until a wait counts as hanging; on a free machine every one of them takes under 20."""


class Project:
    """A folder with the project's code and parameters of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = environment(root.parent)

    @classmethod
    def create(cls, root: Path, **changes: Any) -> Project:
        """A fresh checkout with the smoke preset on one CPU thread, changed by dotted keys."""
        root.mkdir(parents=True)
        for name in FILES:
            shutil.copy2(REPOSITORY / name, root)
        for name in FOLDERS:
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        own = shutil.ignore_patterns("cache", "tmp", "config.local")
        shutil.copytree(REPOSITORY / ".dvc", root / ".dvc", ignore=own)
        project = cls(root)
        project.run("python", "-m", "workflow.preset", "smoke")
        ours = {"study.methods": ["bbn_hls", "random"], "runtime.device": "cpu", "runtime.threads": 1}
        project.edit({**ours, "runtime.progress": "lines", **changes})
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
            project.run("git", *command)
        return project

    def copy(self, root: Path) -> Project:
        """The folder as it is, with cache, time stamps and Snakemake's records."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    def edit(self, changes: dict[str, Any]) -> None:
        """Set dotted keys of params.yaml."""
        path = self.root / "params.yaml"
        document = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            node = document
            for section in sections:
                node = node[section]
            assert last in node, f"{key} is no parameter"
            node[last] = value
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def run(self, *command: str, status: int | None = 0, patience: int = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `status` None accepts every exit status."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=patience,
        )
        if status is not None:
            assert done.returncode == status, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-6000:]}"
        return done

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a command at the head of a process group of its own; both its streams go to `log`."""
        with log.open("wb") as stream:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def end_processes(self) -> None:
        """Kill whatever still runs in this folder: a failed test may leave some behind, stopped ones as well."""
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.root):
                    process.kill()
            except (psutil.Error, OSError):
                continue

    def dvc(self, *arguments: str, status: int | None = 0) -> str:
        return self.run("dvc", *arguments, status=status).stdout

    def snakemake(self, *arguments: str, status: int | None = 0) -> str:
        return self.run("snakemake", "--cores", "2", *arguments, status=status).stdout

    def engine(self, name: str) -> str:
        """`dvc repro` or `snakemake --cores 2`, as a user types it."""
        return self.dvc("repro") if name == "dvc" else self.snakemake()

    def is_clean(self) -> bool:
        """Whether DVC finds nothing to do."""
        return json.loads(self.dvc("status", "--json")) == {}

    def planned(self) -> set[str]:
        """Stages that Snakemake would run now."""
        return set(re.findall(r"^    log: logs/snakemake/(.+)\.log$", self.snakemake("-n"), flags=re.MULTILINE))

    def outputs(self) -> dict[str, str]:
        """sha256 of every file below data and results."""
        return {
            str(file.relative_to(self.root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for folder in ("data", "results")
            for file in sorted((self.root / folder).rglob("*"))
            if file.is_file() and file.name != ".snakemake_timestamp"
        }

    def log_times(self) -> dict[str, int]:
        """When each stage's script ended last: `stage/run` to nanoseconds."""
        folder = self.root / "logs"
        return {
            str(file.parent.relative_to(folder)): file.stat().st_mtime_ns
            for file in sorted(folder.glob("*/*/run.json"))
        }

    def ran(self, action: Callable[[], Any]) -> set[str]:
        """Do `action`; returns `stage/run` of every stage script that ended meanwhile."""
        before = self.log_times()
        action()
        return {name for name, moment in self.log_times().items() if before.get(name) != moment}

    def leftovers(self) -> list[str]:
        """Temporary files anywhere outside of .git and .dvc."""
        return [
            str(file.relative_to(self.root))
            for file in self.root.rglob("*.tmp")
            if not {".git", ".dvc"} & set(file.relative_to(self.root).parts)
        ]

    def forget(self, *outputs: str) -> None:
        """Remove outputs from the working folder and from the cache, so that they have to be computed again."""
        lock = yaml.safe_load((self.root / "dvc.lock").read_text())
        digests = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
        cache = self.root / ".dvc" / "cache"
        for output in outputs:
            digest, path = digests[output], self.root / output
            (cache / "files" / "md5" / digest[:2] / digest[2:]).unlink(missing_ok=True)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        entries = [file for file in (cache / "runs").rglob("*") if file.is_file()]
        for file in entries:
            if {out["path"] for out in yaml.safe_load(file.read_text()).get("outs", [])} & set(outputs):
                file.unlink()
        assert len(entries) > sum(file.exists() for file in entries), f"{outputs} have no entry in DVC's run cache"


def environment(home: Path) -> dict[str, str]:
    """The test's own interpreter first on PATH, nothing of the caller's Python, Git or DVC settings."""
    dropped = ("PYTHON", "DVC_", "GIT_", "SNAKEMAKE", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "OMP_", "MKL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "XDG_CACHE_HOME": str(home / "cache"),
        "DVC_SITE_CACHE_DIR": str(home / "site-cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "no-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "no-config"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **{f"GIT_{who}_{what}": "tests" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[bytes] | None, what: str, log: Path) -> Any:
    """Wait until `condition` gives something true, and return it. Fails where `process`, if any, ends before."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        ended = process is not None and process.poll() is not None
        if found := condition():
            break
        assert not ended, f"the process ended before {what}\n{log.read_text()[-6000:]}"
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE} s\n{log.read_text()[-6000:]}"
        time.sleep(0.005)
    return found
