"""A folder with a small DVC pipeline of shell commands, for tests of what runs one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Project:
    """A folder with a DVC pipeline of shell commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}-site"),
            "DVC_NO_ANALYTICS": "1",
        }

    def create(self, files: dict[str, str]) -> Project:
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")
        (self.root / ".dvcignore").write_text("__pycache__\n")
        return self

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def copy(self, name: str) -> Project:
        shutil.copytree(self.root, self.root.parent / name, symlinks=True)
        return Project(self.root.parent / name)

    def kept(self) -> dict[str, bytes]:
        """Every file but those of Git and DVC's temporary ones. Lines of .gitignore come as stages happen to end."""
        return {
            str(file.relative_to(self.root)): b"".join(sorted(file.read_bytes().splitlines(keepends=True)))
            if file.name == ".gitignore"
            else file.read_bytes()
            for file in sorted(self.root.rglob("*"))
            if file.is_file() and not {".git", "tmp", "__pycache__"} & set(file.relative_to(self.root).parts)
        }

    def is_clean(self) -> bool:
        return self.run("dvc", "status", "--json").strip() == "{}"
