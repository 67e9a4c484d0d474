"""The one error that a user can cause, and how it shows a value."""

from __future__ import annotations

import json
import math
from typing import Any


class UserError(Exception):
    """A mistake in parameters, data or files, told in one line.

    The message names the key or file, the value found there and what is allowed. Stages print it without a
    traceback and exit with status 1.
    """


def short(value: Any) -> str:
    """`value` in at most 80 characters."""
    try:
        text = json.dumps(value, default=str)
    except ValueError:
        text = repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
