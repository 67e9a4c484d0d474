"""What the rows of studies say of a claim: printed from files that a report wrote.

    python -m benchmarks.evidence methods docs/results/successors.csv                   # accuracies and alphas' travel
    python -m benchmarks.evidence heads docs/results/successors.csv                     # what adapting the head changes
    python -m benchmarks.evidence recipes plain.csv other.csv                           # what another recipe changes
    python -m benchmarks.evidence worst docs/results/successors.csv                     # runs below the worst of random
    python -m benchmarks.evidence power docs/results/successors.csv --points 2          # seeds that a difference takes
    python -m benchmarks.evidence claim docs/results/successors.csv "bbn_hls > darts"   # what is decided
    python -m benchmarks.evidence claim --paired docs/results/cifar10-lt-small.csv "darts > random"

The files are a report's summary.csv; several are one study, such as seeds computed later. A seed's value is the mean
over its retrainings. A seed is a long-tailed draw of the images, too, so that runs of one seed have more in common than
those of two: `--paired` takes the seeds that both methods have. Intervals and p are those of one comparison; a report's
comparisons.csv corrects for several.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tailnas.evaluate.metrics import GROUPS
from tailnas.foundation.errors import UserError
from tailnas.report.runs import MODELS
from tailnas.report.statistics import (
    CONFIDENCE,
    pairs_needed,
    sign_flip_test,
    smallest_detectable_difference,
    spread,
)

NEEDED = ("method", "imbalance_factor", "seed")
MEASURED = ("retrained_top1", "adapted_top1", "retrained_few", "adapted_few")
PARTS = ("top1", *GROUPS)
SEARCHED = ("softmax_movement", "skip_share")


def read(files: Sequence[Path], columns: Sequence[str], factor: str | None) -> pd.DataFrame:
    """The runs at one factor. Raises UserError naming the file, the run that stands twice, or the factor."""
    tables = []
    for file in files:
        try:
            table = pd.read_csv(file, dtype={"imbalance_factor": str})
            tables.append(table[[*NEEDED, "run", *columns]])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file}: {' '.join(str(error).split())}; allowed: a summary.csv") from None
    table = at_factor(pd.concat(tables), factor)
    if (twice := table["run"].duplicated()).any():
        raise UserError(f"{table['run'][twice].iloc[0]}: stands twice; allowed: files that share no run")
    return table


def at_factor(table: pd.DataFrame, factor: str | None) -> pd.DataFrame:
    """The rows at one imbalance factor, None being the only one. Raises UserError where there is no such factor."""
    factors = table["imbalance_factor"].unique().tolist()
    if len(factors) == 1 and factor is None:
        factor = factors[0]
    if factor not in factors:
        raise UserError(f"--factor: {factor}; allowed: one of {', '.join(factors)}")
    return table[table["imbalance_factor"] == factor]


@dataclass(frozen=True)
class Rows:
    """One metric of every run, in percent."""

    table: pd.DataFrame
    column: str

    @classmethod
    def read(cls, files: Sequence[Path], column: str, factor: str | None, seeds: Sequence[int] = ()) -> Rows:
        """Of these seeds, or all. Raises UserError naming the file, the run that stands twice, the factor or seed."""
        table = read(files, [column], factor)
        if unknown := [seed for seed in seeds if seed not in set(table["seed"])]:
            raise UserError(f"--seeds: {unknown[0]}; allowed: one of {', '.join(map(str, sorted(set(table['seed']))))}")
        return cls(table[table["seed"].isin(seeds)] if seeds else table, column)

    @property
    def methods(self) -> list[str]:
        return [str(name) for name in self.table["method"].unique()]

    def of(self, method: str) -> pd.Series[float]:
        """By seed. Raises UserError for a method without runs."""
        runs = self.table[self.table["method"] == method]
        if runs.empty:
            raise UserError(f"method: {method}; allowed: one of {', '.join(self.methods)}")
        return 100 * runs.groupby("seed")[self.column].mean()


def methods(table: pd.DataFrame) -> Iterator[list[str]]:
    """For each method, means over seeds with their standard deviation, in percent, and what its searches moved."""
    titles = [f"{model} {part}" for part in ("%", "few %") for model in ("retrained", "adapted")]
    yield ["method", "seeds", *titles, "softmax weights moved", "skip connections"]
    for method, runs in table.groupby("method", sort=False):
        by_seed = runs.groupby("seed")[[*MEASURED, *SEARCHED]].mean()
        cells = []
        for column in (*MEASURED, *SEARCHED):
            percent, digits = (1, 3) if column == "softmax_movement" else (100, 1)
            cells.append(level(percent * by_seed[column], digits))
        yield [str(method), str(len(by_seed)), *cells]


def heads(table: pd.DataFrame) -> Iterator[list[str]]:
    """For each method, the adapted network less the retrained one, in points, paired by seed."""
    return changes(table, "retrained", table, "adapted")


def recipes(plain: pd.DataFrame, other: pd.DataFrame) -> Iterator[list[str]]:
    """For each method of both, retrained by the other recipe less by the plain one, in points, paired by seed."""
    return changes(plain, "retrained", other, "retrained")


def changes(before: pd.DataFrame, model: str, after: pd.DataFrame, later_model: str) -> Iterator[list[str]]:
    """For each method of both tables, the later model's accuracies less the first's by the seeds that both have."""
    yield ["method", "seeds", *PARTS]
    for method in before["method"].unique():
        first, last = (
            100 * table[table["method"] == method].groupby("seed")[[f"{name}_{part}" for part in PARTS]].mean()
            for table, name in ((before, model), (after, later_model))
        )
        if len(both := first.index.intersection(last.index)):
            points = [last.loc[both, f"{later_model}_{part}"] - first.loc[both, f"{model}_{part}"] for part in PARTS]
            yield [str(method), str(len(both)), *(change(gained) for gained in points)]


def level(values: pd.Series[float], digits: int = 1) -> str:
    """The mean with its standard deviation; nothing where no value is known."""
    deviation = "" if len(values) < 2 else f" +- {float(values.std(ddof=1)):.{digits}f}"
    return "" if values.isna().all() else f"{float(values.mean()):.{digits}f}{deviation}"


def change(points: pd.Series[float], digits: int = 1) -> str:
    """The mean with its interval; nothing where a value is not known."""
    if points.isna().any():
        return ""
    found = spread(points.tolist())
    interval = "" if found.low is None else f" [{found.low:+z.{digits}f}, {found.high:+z.{digits}f}]"
    return f"{found.mean:+z.{digits}f}{interval}"


def below_by_chance(below: int, runs: int, others: int) -> float:
    """Probability that the worst `below` or more of `runs` + `others` runs are all among the `runs`, were they alike.

    Every order is then as likely, so it is that of drawing only of the `runs` without putting back.
    """
    drawn = np.arange(below)
    return float(np.prod((runs - drawn) / (runs + others - drawn)))


def worst(rows: Rows, baseline: str) -> Iterator[list[str]]:
    """For each method, its runs below the worst run of the baseline: number, share with its exact interval, and p."""
    reference = rows.of(baseline)
    floor = float(reference.min())
    yield ["method", "runs", "worst %", "median %", "best %", f"below {floor:.1f} %", "share", "95 %", "p"]
    for method in rows.methods:
        values = rows.of(method)
        below, runs = int((values < floor).sum()), len(values)
        row = [method, str(runs), *(f"{float(value):.1f}" for value in (values.min(), values.median(), values.max()))]
        if method == baseline:
            yield [*row, "", "", "", ""]
            continue
        ends = stats.binomtest(below, runs).proportion_ci(CONFIDENCE, "exact")
        interval = f"[{100 * ends.low:.0f}, {100 * ends.high:.0f}]"
        chance = below_by_chance(below, runs, len(reference))
        yield [*row, str(below), f"{100 * below / runs:.0f} %", interval, f"{chance:.3f}"]


@dataclass(frozen=True)
class Difference:
    """Of two methods' means over seeds, in points.

    paired: by seed (Student's t), where both have the same seeds; else of two groups with variances of their own
    (Welch's t). sd: of the pairs, or of a difference of one run from each group.
    """

    mean: float
    low: float
    high: float
    sd: float
    seeds: int
    others: int
    paired: bool
    p: float | None


def difference(method: pd.Series[float], baseline: pd.Series[float]) -> Difference:
    """`method` less `baseline`; two or more seeds of each. Raises UserError for fewer.

    Where they have other seeds, all of them count, by Welch's interval.
    """
    if len(method) < 2 or len(baseline) < 2:
        raise UserError(f"seeds: {len(method)} and {len(baseline)}; allowed: two or more of each method")
    if set(method.index) == set(baseline.index):
        pairs = (method - baseline).to_numpy(np.float64)
        found = spread(pairs.tolist())
        low, high = (found.mean if end is None else end for end in (found.low, found.high))
        p = sign_flip_test(tuple(pairs.tolist()))
        return Difference(found.mean, low, high, float(found.sd or 0.0), len(pairs), len(pairs), True, p)
    one, other = method.to_numpy(np.float64), baseline.to_numpy(np.float64)
    ends = stats.ttest_ind(one, other, equal_var=False).confidence_interval(CONFIDENCE)
    sd = float(np.sqrt(one.var(ddof=1) + other.var(ddof=1)))
    mean = float(one.mean() - other.mean())
    return Difference(mean, float(ends.low), float(ends.high), sd, len(one), len(other), False, None)


def by_shared_seeds(one: pd.Series[float], other: pd.Series[float]) -> tuple[pd.Series[float], pd.Series[float]]:
    """Both by the seeds that both have."""
    both = one.index.intersection(other.index)
    return one[both], other[both]


def verdict(found: Difference) -> str:
    """Of the claim that the difference is above 0, by its 95 % interval."""
    if found.low > 0:
        return "confirmed"
    if found.high < 0:
        return "refuted"
    return f"not decidable: {found.low:+z.1f} to {found.high:+z.1f} are left open"


def claims(rows: Rows, texts: Sequence[str], *, paired: bool = False) -> Iterator[list[str]]:
    """A row for each claim, as `bbn_hls > darts`; paired: by the seeds that both have, no others.

    Raises UserError for a text of another form.
    """
    yield ["claim", "seeds", "difference", "95 %", "p", "detectable", "verdict"]
    for text in texts:
        if not (parts := re.fullmatch(r"\s*(\w+)\s*>\s*(\w+)\s*", text)):
            raise UserError(f"claim: {text!r}; allowed: two methods with > between them")
        one, other = rows.of(parts[1]), rows.of(parts[2])
        if paired:
            one, other = by_shared_seeds(one, other)
        found = difference(one, other)
        seeds = str(found.seeds) if found.paired else f"{found.seeds} and {found.others}"
        chance = "" if found.p is None else f"{found.p:.3f}"
        least = f"{smallest_detectable_difference(found.sd, found.seeds):.1f}" if found.paired else ""
        interval = f"[{found.low:+z.1f}, {found.high:+z.1f}]"
        yield [f"{parts[1]} > {parts[2]}", seeds, f"{found.mean:+z.1f}", interval, chance, least, verdict(found)]


def power(rows: Rows, method: str, points: float) -> Iterator[list[str]]:
    """Seeds that show a difference of `points`, where both methods vary as this one does, with the ends of its sd."""
    values = rows.of(method).to_numpy(np.float64)
    if len(values) < 2:
        raise UserError(f"seeds: {len(values)} of {method}; allowed: two or more")
    freedom = len(values) - 1
    tail = (1 - CONFIDENCE) / 2
    sd = float(values.std(ddof=1))
    ends = [sd * float(np.sqrt(freedom / stats.chi2.ppf(quantile, freedom))) for quantile in (1 - tail, tail)]
    yield ["", "sd of a run", f"seeds for {points:g} points", "points that 5 seeds show", "points that 10 seeds show"]
    for title, deviation in (("found", sd), ("95 %, low", ends[0]), ("95 %, high", ends[1])):
        pair = deviation * 2**0.5
        shown = [f"{smallest_detectable_difference(pair, seeds):.1f}" for seeds in (5, 10)]
        yield [title, f"{deviation:.2f}", str(pairs_needed(points, pair)), *shown]


def markdown(rows: Iterator[list[str]]) -> str:
    """A table in Markdown, its columns as wide as they need."""
    table = [*rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


TABLES = {
    "methods": (methods, (*MEASURED, *SEARCHED)),
    "heads": (heads, tuple(f"{model}_{part}" for model in MODELS for part in PARTS)),
}
"""Commands that print a table of all methods, and the columns that each reads."""

MEASURES = ("worst", "power", "claim")
"""Commands that read one column."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands: Any = parser.add_subparsers(dest="command", required=True)
    for name in (*TABLES, "recipes", *MEASURES):
        command = commands.add_parser(name)
        if name == "recipes":
            command.add_argument("plain", type=Path, help="summary.csv of one recipe")
            command.add_argument("other", type=Path, help="of the same searches retrained by another")
        else:
            command.add_argument("files", type=Path, nargs="+" if name != "claim" else None)
        if name in MEASURES:
            command.add_argument("--column", default="retrained_top1", help="a share of summary.csv (retrained_top1)")
        command.add_argument("--factor", help="imbalance factor, where the files have several")
        if name == "claim":
            command.add_argument("claims", nargs="+", help="as in 'bbn_hls > darts'")
            command.add_argument("--paired", action="store_true", help="by the seeds that both have, no others")
            command.add_argument(
                "--seeds", type=int, nargs="+", default=(), help="only these, such as those of a replication"
            )
        elif name in MEASURES:
            command.add_argument("--method", default="random", help="the control (random)")
        if name == "power":
            command.add_argument("--points", type=float, default=2.0, help="difference in points (2)")
    args = parser.parse_args(arguments)
    try:
        if args.command == "recipes":
            shares = [f"retrained_{part}" for part in PARTS]
            print(markdown(recipes(*(read([file], shares, args.factor) for file in (args.plain, args.other)))))
            return
        files = [args.files] if isinstance(args.files, Path) else args.files
        if args.command in TABLES:
            table, columns = TABLES[args.command]
            print(markdown(table(read(files, columns, args.factor))))
            return
        rows = Rows.read(files, args.column, args.factor, args.seeds if args.command == "claim" else ())
        if args.command == "worst":
            print(markdown(worst(rows, args.method)))
        elif args.command == "power":
            print(markdown(power(rows, args.method, args.points)))
        else:
            print(markdown(claims(rows, args.claims, paired=args.paired)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
