"""dvc.lock as text: entries of single stages are put in their place, and the file is replaced, never emptied."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

HEAD = "schema: '2.0'\nstages:\n"
_SECTION = re.compile(r"^stages:\n((?:(?:[ \t].*)?\n)*)", flags=re.MULTILINE)
_ENTRY = re.compile(r"^  (?![ #-])(.+):\n(?:(?:   .*)?\n)*", flags=re.MULTILINE)


def spliced(text: str, entries: Mapping[str, str], added: Iterable[str]) -> str | None:
    """`text` of a dvc.lock with `entries`, each the lines of one stage as DVC writes them, under its key as written.

    An entry that is there is replaced in its place; a new one goes to the end. Those whose key is among `added` stand
    last, in that order. None where the text is not laid out as DVC does it.
    """
    if not text:
        text = HEAD
    elif not text.endswith("\n"):  # cut within a line
        text += "\n"
    section = _SECTION.search(text)
    if section is None or not text.startswith("schema: "):
        return None
    present = {found[1]: found[0] for found in _ENTRY.finditer(section[1])}
    if "".join(present.values()) != section[1]:
        return None
    last = [key for key in added if key in present or key in entries]
    whole = {**present, **entries}
    order = [key for key in whole if key not in set(last)] + last
    return text[: section.start(1)] + "".join(whole[key] for key in order) + text[section.end(1) :]


def keys(text: str) -> set[str]:
    """The keys of all entries of a dvc.lock, with quotes where they have any."""
    return {found[1] for found in _ENTRY.finditer(text)}


def key_of(entry: str) -> str:
    """The key of an entry's text, with quotes if it has any."""
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise ValueError(f"no entry of a lock file: {entry[:80]!r}")
    return found[1]


def replace(path: Path, text: str, temporary_folder: Path) -> None:
    """Write `text` whole to a temporary file, have the disk hold it, and give it the name `path`."""
    temporary = temporary_folder / f"{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
