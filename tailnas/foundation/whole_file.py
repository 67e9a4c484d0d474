"""Files that are there whole or not at all, and files that know whether they are still as they were written."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path

_DIGEST = 32


def write_whole(path: Path, *content: bytes | memoryview) -> None:
    """Write `content`; an old file stays until the new one is whole on disk. Raises OSError that names `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            leftover.unlink(missing_ok=True)
        with temporary.open("wb") as stream:
            stream.writelines(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


class Damaged(Exception):
    """A file is not what was written."""


def write_sealed(path: Path, content: bytes | memoryview) -> None:
    """Write `content` and its SHA-256, for `read_sealed`. Raises as `write_whole` does."""
    write_whole(path, content, hashlib.sha256(content).digest())


def read_sealed(path: Path) -> bytes:
    """What `write_sealed` was given. Raises Damaged where a bit of the file is another."""
    content = path.read_bytes()
    if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
        raise Damaged("its checksum is another")
    return content[:-_DIGEST]
