"""How the cost of a step grows: one size at a time away from a middle one, as a table and as a plot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.compare import compare
from benchmarks.sides import SIDES

MIDDLE = {"channels": 8, "cells": 5, "batch": 16, "image": 32}
VALUES = {
    "channels": (4, 8, 16, 32),
    "cells": (3, 5, 8, 11),
    "batch": (8, 16, 32, 64),
    "image": (16, 24, 32, 48),
}
LABELS = {"channels": "channels", "cells": "cells", "batch": "images in a batch", "image": "image side, pixels"}
QUICK_MIDDLE = {"channels": 4, "cells": 3, "batch": 4, "image": 16}
QUICK_VALUES = {"channels": (4, 8)}


def measure(device: str, threads: int, precision: str, seconds: float, quick: bool = False) -> list[dict[str, Any]]:
    """First-order steps; one row per size: what varies, its value and the comparison."""
    middle, values = (QUICK_MIDDLE, QUICK_VALUES) if quick else (MIDDLE, VALUES)
    known: dict[Case, dict[str, Any]] = {}
    rows = []
    for varied, choices in values.items():
        for choice in choices:
            case = Case(step="first", **{**middle, varied: choice})
            if case not in known:
                known[case] = compare(case, device, threads, precision, seconds, count=False)
            rows.append({"varied": varied, "value": choice, **known[case]})
    return rows


def exponent(points: list[tuple[float, float]]) -> float:
    """Slope of the least-squares line through (log x, log y): y grows as x to this power."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text: seconds and memory of both sides, and the power that each grows with."""
    lines = [f"{'':>14} {'plain s':>9} {'tailnas s':>9} {'ratio':>6} {'plain GiB':>9} {'tailnas GiB':>11}"]
    for varied in dict.fromkeys(row["varied"] for row in rows):
        group = [row for row in rows if row["varied"] == varied]
        for row in group:
            plain, tailnas = (row[side] for side in SIDES)
            lines.append(
                f"{varied:>9} {row['value']:>4} {plain['seconds_min']:>9.3f} {tailnas['seconds_min']:>9.3f} "
                f"{row['ratio']['speed_min']:>6.2f} {plain['peak_memory'] / 2**30:>9.2f} "
                f"{tailnas['peak_memory'] / 2**30:>11.2f}"
            )
        powers = [exponent([(row["value"], row[side]["seconds_min"]) for row in group]) for side in SIDES]
        lines.append(f"{'grows as':>9}    ^ {powers[0]:>9.2f} {powers[1]:>9.2f}")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Seconds per step against each size, both axes logarithmic; PNG or SVG by the file's ending."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "tailnas"
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    groups = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = pyplot.subplots(1, len(groups), figsize=(3.2 * len(groups), 3.2), sharey=True, squeeze=False)
    for axis, varied in zip(axes[0], groups, strict=True):
        group = [row for row in rows if row["varied"] == varied]
        for side, marker in zip(SIDES, "so", strict=True):
            axis.loglog(
                [row["value"] for row in group], [row[side]["seconds_min"] for row in group], marker=marker, label=side
            )
        axis.set_xticks([row["value"] for row in group], [str(row["value"]) for row in group])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(LABELS[varied])
        axis.grid(visible=True, alpha=0.3)
    axes[0][0].set_ylabel("seconds per step")
    axes[0][0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
