"""Paths that a user names, in which ~ is a home."""

from __future__ import annotations

import os
from pathlib import Path

from tailnas.foundation.errors import UserError, short


def users_path(key: str, text: str) -> Path:
    """`text` with ~ expanded. Raises UserError, naming `key`, where it cannot be a path: nobody's home, too long."""
    try:
        path = Path(text).expanduser()
        if os.path.lexists(path):
            return path
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # whoever reads it says what is missing
    except (RuntimeError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UserError(f"{key}: {short(text)}: {reason}; allowed: a path, in which ~ is your home") from None
    return path
