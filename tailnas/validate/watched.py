"""What outputs depend on and dvc.yaml cannot name: the user's images and the installed packages.

`validate` writes a line of each into data/watched/, where the stages that depend on it find it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import stat
import time
from importlib.metadata import version
from pathlib import Path

from tailnas.fetch.source import watched
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.whole_file import Damaged, read_sealed, write_sealed

FOLDER = Path("data/watched")
MEMORY = Path(".tailnas/watched")
PACKAGES = (
    *("torch", "torchvision", "numpy", "pandas", "scikit-learn", "scipy", "matplotlib", "pillow", "safetensors"),
    "jinja2",
)
"""Those that outputs are made with; the others only check, show or record."""

SETTLED = 2
"""Seconds after which a file system gives a changed file another time."""


def packages() -> str:
    """Python's version and those of PACKAGES, one a line."""
    lines = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return "\n".join(lines) + "\n"


def images(source: Chosen, memory: Path) -> str:
    """A digest of names and contents of the user's images; of a source without any, a digest of nothing.

    memory: file that keeps the digests of contents. A file whose size, times and number are as they were there is not
    read again.
    """
    try:
        known = json.loads(read_sealed(memory))
    except (OSError, Damaged):
        known = {}
    found: dict[str, list[int | str]] = {}
    settled: dict[str, list[int | str]] = {}
    now = time.time_ns()
    for path in watched(source):
        try:
            status = path.stat()
        except OSError:  # a link to nothing, which fetch names
            found[str(path)] = ["unreadable"]
            continue
        facts = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        before = known.get(str(path), [])
        digest = before[-1] if before[:-1] == facts else _digest(path, status.st_mode)
        found[str(path)] = [digest]
        if now - max(facts[1:3]) > SETTLED * 10**9:
            settled[str(path)] = [*facts, digest]
    if settled != known:
        write_sealed(memory, json.dumps(settled).encode())
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest() + "\n"


def _digest(path: Path, mode: int) -> str:
    if not stat.S_ISREG(mode):
        return "no file"
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"
