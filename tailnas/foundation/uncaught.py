"""What reaches no `main` of a command: Ctrl-C and want of memory while libraries are imported."""

from __future__ import annotations

import sys
from types import TracebackType

from tailnas.foundation.errors import one_line


def say_in_one_line() -> None:
    """Have this process end without a traceback where the user or the system ends it, by the words of `one_line`."""
    show = sys.excepthook

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        if (line := one_line(error)) is None:
            show(kind, error, trace)
        else:
            print(line, file=sys.stderr)

    sys.excepthook = say
