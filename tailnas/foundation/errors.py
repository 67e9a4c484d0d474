"""The one error that a user can cause, how it shows a value, and what the system's own errors are in one line."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

LONGEST = 80
OURS = ("tailnas", "stages", "bridge", "workflow", "benchmarks", "tests")


class UserError(Exception):
    """A mistake in parameters, data or files, told in one line.

    The message names the key or file, the value found there and what is allowed. Stages print it without a
    traceback and exit with status 1. Control characters in it are written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(plain, message.split("\n"))))


def one_line(error: BaseException) -> str | None:
    """What to say of an error that the user or the system caused, with what is allowed; None of a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        where, why = error.filename or _here(), error.strerror or " ".join(str(error).split())
        return f"{where}: {why}; allowed: a readable file, a writable folder with space"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in OURS:
        return f"{error.name}: not installed; allowed: the environment that `make install` makes, activated"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
        return "runtime.device: out of GPU memory; allowed: a smaller batch_size, channels or cells"
    no_memory = (
        *("can't allocate memory", "not enough memory", "can't start new thread", "Cannot allocate memory"),
        *("bad_alloc", "Storage size calculation overflowed"),
        *("failed to map segment", "static TLS block"),  # while a library is loaded
    )
    told = isinstance(error, RuntimeError | ImportError) and any(text in str(error) for text in no_memory)
    if isinstance(error, MemoryError) or told:
        return "memory: not enough; allowed: a smaller data.image_size, batch_size, channels or cells, or more memory"
    return None


def _here() -> str:
    """The folder in which a process works, where an error names no file."""
    try:
        return str(Path.cwd())
    except OSError:  # it is gone
        return "this folder"


def short(value: Any) -> str:
    """`value` in at most 80 characters, however much it holds."""
    try:
        pieces = json.JSONEncoder(default=str).iterencode(value)  # lazily: aliases make small files endless
        text = "".join(islice(pieces, LONGEST + 1))
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    if isinstance(value, float):
        text = str(value)
    return cut(text)


def plain(text: str) -> str:
    """`text` on one line, as it may go to a terminal: control characters written out, at most 2000 characters."""
    written = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return cut(written, 2000)


def spoken_size(count: float) -> str:
    """A number of bytes for a line: `3.4 KiB`, `1.5 MiB`, `10,547.1 GiB`."""
    unit, name = next(
        ((2**power, name) for power, name in ((30, "GiB"), (20, "MiB")) if count >= 2**power), (2**10, "KiB")
    )
    return f"{count / unit:,.1f} {name}"


def cut(text: str, longest: int = LONGEST) -> str:
    """`text`, or its beginning where it is longer."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
