"""Every method against a control, under several recipes, in one figure.

    python -m benchmarks.forest --output methods.png \\
        "cross-entropy=docs/results/cifar10-lt-small.csv" \\
        "head adapted=docs/results/cifar10-lt-small.csv:adapted_top1"

A recipe is LABEL=FILE, or LABEL=FILE:COLUMN, the file being a report's summary.csv. On the left stands the accuracy of
each seed and method, on the right what the method is ahead of the control, paired by the seeds that both have, with the
95 % interval of `evidence claim`. Ends that lie beyond the axis are cut there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.evidence import Difference, Rows, by_shared_seeds, difference
from tailnas.foundation.errors import UserError
from tailnas.report.svg import report_style

LIMIT = 16.0
"""Points on either side of the control that are drawn."""


def recipe(text: str, factor: str | None) -> tuple[str, Rows]:
    """A label and its rows. Raises UserError for a text of another form, and as `Rows.read` does."""
    if not (parts := re.fullmatch(r"([^=]+)=([^:]+)(?::(\w+))?", text)):
        raise UserError(f"recipe: {text!r}; allowed: LABEL=FILE or LABEL=FILE:COLUMN")
    return parts[1].strip(), Rows.read([Path(parts[2])], parts[3] or "retrained_top1", factor)


def ahead(rows: Rows, control: str) -> dict[str, Difference]:
    """What each other method with two seeds of the control's is ahead of it, in points."""
    reference, found = rows.of(control), {}
    for method in rows.methods:
        one, other = by_shared_seeds(rows.of(method), reference)
        if method != control and len(one) > 1:
            found[method] = difference(one, other)
    return found


def figure(recipes: Mapping[str, Rows], control: str) -> Figure:
    """Accuracies of all seeds, and differences with their intervals; a row per method, a colour per recipe."""
    methods = list(dict.fromkeys(method for rows in recipes.values() for method in rows.methods))
    drawn = Figure(figsize=(11.4, 1.4 + (0.15 + 0.1 * len(recipes)) * len(methods)))
    accuracies, differences = drawn.subplots(1, 2, sharey=True)
    for place, (label, rows) in enumerate(recipes.items()):
        offset = 0.66 / len(recipes) * (place - (len(recipes) - 1) / 2)
        for method in rows.methods:
            values = rows.of(method)
            accuracies.plot(values, [methods.index(method) + offset] * len(values), ".", color=f"C{place}", alpha=0.7)
        for method, found in ahead(rows, control).items():
            low, high = max(found.low, -LIMIT), min(found.high, LIMIT)
            height = methods.index(method) + offset
            differences.plot([low, high], [height, height], color=f"C{place}", linewidth=1.6)
            differences.plot([found.mean], [height], "o", color=f"C{place}", markersize=4.5)
        accuracies.plot([], [], "o", color=f"C{place}", label=label)
    accuracies.set_yticks(range(len(methods)), methods)
    accuracies.set_ylim(len(methods) - 0.4, -0.6)
    accuracies.set_title("Each seed")
    accuracies.set_xlabel("accuracy on test images, %")
    differences.set_title(f"Ahead of {control}, with 95 % intervals")
    differences.set_xlabel("points of accuracy, paired by seed")
    differences.set_xlim(-LIMIT, LIMIT)
    differences.axvline(0, color="black", linewidth=0.8)
    drawn.legend(loc="outside lower center", ncols=len(recipes))
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", nargs="+", metavar="LABEL=FILE", help="or LABEL=FILE:COLUMN (retrained_top1)")
    parser.add_argument("--output", type=Path, required=True, help="file of the figure")
    parser.add_argument("--control", default="random")
    parser.add_argument("--factor", help="imbalance factor, where the files have several")
    args = parser.parse_args(arguments)
    try:
        recipes = dict(recipe(text, args.factor) for text in args.recipes)
        with report_style():
            figure(recipes, args.control).savefig(args.output, dpi=130)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
