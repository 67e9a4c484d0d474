"""Tests share their cores, as stages do; at the end stands what each file took."""

import os
from collections import Counter

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHOWN_FROM = 5
"""Seconds."""


def pytest_terminal_summary(terminalreporter):
    """Seconds per test file, setup included, the slowest first."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            seconds[report.nodeid.split("::")[0]] += (
                getattr(report, "duration", 0.0) if hasattr(report, "nodeid") else 0.0
            )
    terminalreporter.section("seconds per file")
    for file, taken in seconds.most_common():
        if taken >= SHOWN_FROM:
            terminalreporter.write_line(f"{taken:7.1f}  {file}")
