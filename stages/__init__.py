"""One thin script per stage: parse, load, call tailnas, save."""

import os
import sys
from types import TracebackType

# Threads that wait for each other spin for a moment, then sleep. Spinning for long, torch's default, makes a step 20
# times slower where another process shares the cores; not spinning at all makes small networks half as fast. It has to
# be said before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_show = sys.excepthook


def _quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while the libraries are being imported is no bug."""
    if not issubclass(kind, KeyboardInterrupt):
        _show(kind, error, trace)


sys.excepthook = _quiet
