"""Inputs held against what dvc.lock records of them.

DVC takes a file whose size and time are as they were for unchanged. A disk or memory that loses a bit changes neither,
and what is computed from it would be recorded as if the input were sound.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tailnas.foundation.errors import UserError

LOCK = Path("dvc.lock")
_ENTRY = re.compile(r"    - path: (?P<path>.+)\n(?:      hash: md5\n)?      md5: (?P<md5>[0-9a-f]{32}(?:\.dir)?)\n")


def require_recorded(inputs: Iterable[Path]) -> None:
    """Raises UserError naming the first file of `inputs`, files or folders, that is not as dvc.lock records it.

    A folder is known by the list of its files in DVC's cache; where that is not, its files are not looked at, nor are
    files that are not there or that dvc.lock does not have.
    """
    given = list(inputs)
    for output, digest in recorded().items():
        reached = [path for path in given if path.is_relative_to(output) or output.is_relative_to(path)]
        if not reached:
            continue
        for file, known in _files(output, digest):
            read = any(file.is_relative_to(path) for path in reached)
            if read and file.is_file() and _md5(file) != known:
                raise UserError(
                    f"{file}: is not what dvc.lock records (md5 {known}), and DVC took it for unchanged; allowed: "
                    f"what the stage wrote; remove {output} and run again"
                )


def recorded() -> dict[Path, str]:
    """Every output in dvc.lock with its digest. Line by line, since to read it as YAML takes a second and more."""
    try:
        text = LOCK.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    blocks = re.findall(r"^    outs:\n((?:    - .*\n|      .*\n)+)", text, flags=re.MULTILINE)
    return {Path(entry["path"]): entry["md5"] for block in blocks for entry in _ENTRY.finditer(block)}


def _files(output: Path, digest: str) -> Iterator[tuple[Path, str]]:
    if not digest.endswith(".dir"):
        yield output, digest
        return
    try:
        listing = json.loads((_cache() / "files" / "md5" / digest[:2] / digest[2:]).read_bytes())
    except (OSError, ValueError):
        return
    yield from ((output / entry["relpath"], entry["md5"]) for entry in listing)


def _cache() -> Path:
    folder = ".dvc/cache"
    for name in ("config", "config.local"):
        config = configparser.ConfigParser(interpolation=None, strict=False)
        config.read(Path(".dvc", name), encoding="utf-8")
        folder = str(Path(".dvc", config.get("cache", "dir"))) if config.has_option("cache", "dir") else folder
    return Path(folder)


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
