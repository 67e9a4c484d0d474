"""A digest of a folder that is nobody's output: names and contents of its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def folder_digest(path: Path) -> str:
    """SHA-256 of the names and contents of all files below `path`, or of `path` where it is a file itself.

    Links are followed, times do not matter. Raises OSError where `path` is not there.
    """
    digest = hashlib.sha256()
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    for file in sorted(_files(path), key=os.fspath):
        digest.update(str(file.relative_to(path)).encode("utf-8", "surrogateescape") + b"\0")
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError:  # a link to nothing, which `fetch` names
            digest.update(b"unreadable")
    return digest.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    """Regular files below `root` and links to nothing, each folder once, whatever links say."""
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (path for path in (Path(folder, name) for name in names) if path.is_file() or path.is_symlink())
