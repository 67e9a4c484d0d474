"""When the alphas of finished searches move, and when they rest (HLS, 2406.07028, figures 2, 3 and 5).

    python -m benchmarks.settling results/runs --output settling               # rows of every search by gradient
    python -m benchmarks.settling --table docs/results/cifar10-lt-alphas.csv   # what they say
    python -m benchmarks.settling --table docs/results/cifar10-lt-alphas.csv --less bbn_hls bbn
    python -m benchmarks.settling --mixing docs/results/cifar10-lt-mixing.csv      # accuracy against the mixing ratio

`alphas.csv` has a row for each search, component and epoch: `step`, how far the softmax weights moved in it (mean of
absolute changes), `travel`, how far they are from where they began, and `entropy` in nats, mean over edges.
`mixing.csv` has the balanced accuracy of searches with two branches against the mixing ratio at inference (figure 4),
on the architecture half, which the alphas have seen. `settling.png` draws both. What settles moves little late: a
weight that moves as far in every epoch has a quarter of its path in the last quarter, one that settles less.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import entr, softmax

from benchmarks.evidence import at_factor, change, level, markdown
from tailnas.derive.palette import COMPONENT_TITLES
from tailnas.foundation.errors import UserError
from tailnas.genotype.found import ALPHAS_FILE, FOUND, read_alphas
from tailnas.report.runs import read_table
from tailnas.report.statistics import sign_flip_test
from tailnas.report.svg import report_style

SEARCH = ("method", "imbalance_factor", "seed")
PARTS = 4
"""Quarters of a search."""
SHOWN = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Mixing ratios of a printed table."""


def searches(runs: Path) -> Iterator[tuple[list[str], Path]]:
    """Method, factor and seed of each finished search by gradient in results/runs, and its folder."""
    for file in sorted(runs.glob(f"*/search/{FOUND}/{ALPHAS_FILE}")):
        yield file.parts[-4].rsplit("-", 2), file.parents[1]


def alphas_table(runs: Path) -> pd.DataFrame:
    """The rows of alphas.csv. Raises UserError naming a file that cannot be read, or the folder where none is."""
    rows = []
    for search, folder in searches(runs):
        for component, alphas in read_alphas(folder / FOUND / ALPHAS_FILE).items():
            weights = softmax(alphas.astype(np.float64), axis=-1)
            steps = np.abs(np.diff(weights, axis=0)).mean((1, 2))
            travel = np.abs(weights[1:] - weights[0]).mean((1, 2))
            entropy = entr(weights[1:]).sum(-1).mean(-1)
            for epoch, numbers in enumerate(zip(steps, travel, entropy, strict=True), start=1):
                rows.append([*search, component, epoch, *(round(float(number), 6) for number in numbers)])
    if not rows:
        raise UserError(f"{runs}: no search with alphas; allowed: results/runs of a study that has searched")
    return pd.DataFrame(rows, columns=[*SEARCH, "component", "epoch", "step", "travel", "entropy"])


def mixing_table(runs: Path) -> pd.DataFrame:
    """The rows of mixing.csv."""
    tables = []
    for search, folder in searches(runs):
        if (file := folder / "mixing_ratio.csv").exists():
            table = read_table(file, {"mixing_ratio": float, "balanced_accuracy": float})
            tables.append(table.round(6).assign(**dict(zip(SEARCH, search, strict=True))))
    columns = [*SEARCH, "mixing_ratio", "balanced_accuracy"]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """For each search and component: travel, and the shares of its path in the first and last quarter of the epochs.

    Epochs that straddle two quarters count in both by their parts. What never moved has no shares.
    """
    rows = []
    for key, part in table.groupby([*SEARCH, "component"], sort=False):
        ordered = part.sort_values("epoch")
        path = np.concatenate([[0.0], ordered["step"].to_numpy(np.float64).cumsum()])
        path /= path[-1] or np.nan
        ends = np.interp([1 / PARTS, 1 - 1 / PARTS], np.linspace(0, 1, len(path)), path)
        rows.append([*key, float(ordered["travel"].iloc[-1]), float(ends[0]), float(1 - ends[1])])
    return pd.DataFrame(rows, columns=[*SEARCH, "component", "travel", "first", "last"])


def settling(table: pd.DataFrame) -> Iterator[list[str]]:
    """Per method and component: means over seeds with their standard deviation."""
    yield ["method", "component", "seeds", "travel", "path in the first quarter %", "path in the last quarter %"]
    for (method, component), part in shares(table).groupby(["method", "component"], sort=False):
        cells = [level(part["travel"], 3), *(level(100 * part[column], 0) for column in ("first", "last"))]
        yield [str(method), str(component).replace("_", " "), str(len(part)), *cells]


def less(table: pd.DataFrame, method: str, baseline: str) -> Iterator[list[str]]:
    """`method` less `baseline` in shares of the path, paired by seed. Raises UserError where none is."""
    found = shares(table)
    both = [found[found["method"] == name].set_index(["component", *SEARCH[1:]]) for name in (method, baseline)]
    shared = both[0].index.intersection(both[1].index)
    if shared.empty:
        raise UserError(f"--less: {method} {baseline}; allowed: two methods with a seed in common")
    yield ["component", "seeds", "path in the first quarter, points", "path in the last quarter, points", "p, last"]
    for component in dict.fromkeys(shared.get_level_values("component")):
        one, other = (part.loc[shared].loc[component] for part in both)
        first, last = (100 * (one[column] - other[column]) for column in ("first", "last"))
        chance = f"{sign_flip_test(tuple(last)):.3f}" if len(last) > 1 else ""
        yield [component.replace("_", " "), str(len(last)), change(first, 0), change(last, 0), chance]


def mixed(table: pd.DataFrame) -> Iterator[list[str]]:
    """Balanced accuracy per method and mixing ratio, and less that of the same searches mixed evenly, by seed."""
    yield ["method", "mixing ratio", "seeds", "balanced accuracy %", "less at 1/2, points"]
    for method, part in table.groupby("method", sort=False):
        accuracy = 100 * part.pivot(index=[*SEARCH[1:]], columns="mixing_ratio", values="balanced_accuracy")
        if missing := [ratio for ratio in SHOWN if ratio not in accuracy]:
            raise UserError(
                f"mixing ratio: {missing[0]:g} of {method} is missing; allowed: {', '.join(map(str, SHOWN))}"
            )
        for ratio in SHOWN:
            less_even = "" if ratio == 0.5 else change(accuracy[ratio] - accuracy[0.5])
            yield [str(method), f"{ratio:g}", str(len(accuracy)), level(accuracy[ratio]), less_even]


def figure(alphas: pd.DataFrame, mixing: pd.DataFrame) -> Figure:
    """Steps of each component's softmax weights over the epochs, and accuracy against the mixing ratio: a line for each
    method, the mean over its searches.
    """
    components = list(dict.fromkeys(alphas["component"]))
    drawn = Figure(figsize=(11.4, 7.0))
    axes = drawn.subplots(2, 3).ravel()
    methods = list(dict.fromkeys(alphas["method"]))
    colours = {method: f"C{place}" for place, method in enumerate(methods)}
    for panel, component in zip(axes, components, strict=False):
        for method in methods:
            part = alphas[(alphas["method"] == method) & (alphas["component"] == component)]
            if not part.empty:
                mean = part.groupby("epoch")["step"].mean()
                panel.plot(mean.index, mean, marker=".", color=colours[method], label=method)
        panel.set_title(COMPONENT_TITLES[component])
        panel.set_xlabel("epoch")
        panel.set_ylabel("mean change of a softmax weight")
        panel.set_ylim(bottom=0)
    axes[0].legend(fontsize="small")
    for panel in axes[len(components) :]:
        panel.set_axis_off()
    if not mixing.empty:
        panel = axes[len(components)]
        panel.set_axis_on()
        for method, part in mixing.groupby("method", sort=False):
            mean = 100 * part.groupby("mixing_ratio")["balanced_accuracy"].mean()
            panel.plot(mean.index, mean, color=colours[str(method)], label=method)
        panel.set_title("Super-network, mixed at inference")
        panel.set_xlabel("mixing ratio: 0 class branch, 1 instance branch")
        panel.set_ylabel("balanced accuracy on\nthe architecture half, %")
        panel.legend(fontsize="small")
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.settling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="?", help="results/runs of a study")
    parser.add_argument("--output", type=Path, help="folder of the rows and the figure")
    parser.add_argument("--table", type=Path, help="print what these rows say")
    parser.add_argument("--less", nargs=2, metavar="METHOD", help="with --table: the first less the second, by seed")
    parser.add_argument("--factor", help="imbalance factor of table and figure, where there are several")
    parser.add_argument("--mixing", type=Path, help="print what these rows say")
    args = parser.parse_args(arguments)
    try:
        if args.mixing:
            columns = {**dict.fromkeys(SEARCH, str), "mixing_ratio": float, "balanced_accuracy": float}
            print(markdown(mixed(at_factor(read_table(args.mixing, columns), args.factor))))
            return
        if args.table:
            columns = {**dict.fromkeys(SEARCH, str), "component": str, "epoch": int, "step": float, "travel": float}
            rows = at_factor(read_table(args.table, columns), args.factor)
            print(markdown(less(rows, *args.less) if args.less else settling(rows)))
            return
        if args.runs is None or args.output is None:
            parser.error("allowed: a folder of runs and --output, or --table, or --mixing")
        alphas, mixing = alphas_table(args.runs), mixing_table(args.runs)
        shown = at_factor(alphas, args.factor)
        args.output.mkdir(parents=True, exist_ok=True)
        alphas.to_csv(args.output / "alphas.csv", index=False)
        mixing.to_csv(args.output / "mixing.csv", index=False)
        with report_style():
            at_it = mixing["imbalance_factor"].isin(shown["imbalance_factor"])
            figure(shown, mixing[at_it]).savefig(args.output / "settling.png", dpi=130)
        print(markdown(settling(shown)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
