"""The one error that a user can cause, and how it shows a value."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

LONGEST = 80


class UserError(Exception):
    """A mistake in parameters, data or files, told in one line.

    The message names the key or file, the value found there and what is allowed. Stages print it without a
    traceback and exit with status 1.
    """


def short(value: Any) -> str:
    """`value` in at most 80 characters, however much it holds."""
    try:
        pieces = json.JSONEncoder(default=str).iterencode(value)  # lazily: aliases make small files endless
        text = "".join(islice(pieces, LONGEST + 1))
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    if isinstance(value, float):
        text = str(value)
    return _cut(text)


def plain(text: str) -> str:
    """`text` as it may go to a terminal: no control characters, at most 200 characters."""
    return _cut("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text), 200)


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
