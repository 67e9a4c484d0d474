"""Rows of the report's tables, formatted for readers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailnas.evaluation.comparisons import Comparison
from tailnas.evaluation.figures import size_order
from tailnas.evaluation.findings.finding import points
from tailnas.evaluation.metrics import GROUPS
from tailnas.evaluation.runs import MODELS, Results, Run
from tailnas.evaluation.summary import METRIC_TITLES, TABLE_METRICS, metric_values

NONE = "–"


@dataclass(frozen=True)
class Pair:
    """A metric retrained and adapted, in percent; `trend` names the change: `up` or `down`, `better` or `worse`."""

    retrained: str
    adapted: str
    trend: str


@dataclass(frozen=True)
class ResultRow:
    """One run, or the mean over seeds of one method."""

    name: str
    seed: str
    pairs: list[Pair]
    parameters: str
    multiply_adds: str
    search_cost: str


@dataclass(frozen=True)
class ComparisonRow:
    """A method against a baseline, in percentage points."""

    metric: str
    model: str
    method: str
    baseline: str
    difference: str
    interval: str
    p_value: str
    adjusted_p: str
    detectable: str
    told_apart: bool


@dataclass(frozen=True)
class ClassRow:
    """One class of a run."""

    name: str
    group: str
    count: str
    retrained: str
    adapted: str
    change: str


def metric_columns(results: Results) -> tuple[str, ...]:
    """Metrics of the results table; balanced accuracy only where it differs from top-1 (an unbalanced test set)."""
    return (TABLE_METRICS[0], *(() if balanced_test(results) else ("balanced_accuracy",)), *TABLE_METRICS[1:], "ece")


def balanced_test(results: Results) -> bool:
    """Whether top-1 is balanced accuracy in every run, as it is on an exactly balanced test set."""
    values = [run.metrics[model] for run in results.runs for model in MODELS]
    return all(abs((v["top1"] or 0.0) - (v["balanced_accuracy"] or 0.0)) < 1e-9 for v in values)


def column_titles(results: Results) -> list[str]:
    """Headings of `metric_columns`."""
    return [METRIC_TITLES[metric] for metric in metric_columns(results)]


def run_rows(results: Results, factor: int | float) -> list[ResultRow]:
    """A row for each run at one imbalance factor."""
    return [_result_row(results, [run], run.method, str(run.seed)) for run in results.of(factor=factor)]


def mean_rows(results: Results, factor: int | float) -> list[ResultRow]:
    """A row for each method at one imbalance factor: mean and standard deviation over its seeds."""
    seeds = str(len(results.seeds))
    return [_result_row(results, results.of(method, factor), method, seeds) for method in results.methods]


def _result_row(results: Results, runs: list[Run], name: str, seed: str) -> ResultRow:
    costs = [run.cost["images"] * run.cost["multiply_adds"] for run in runs]
    return ResultRow(
        name,
        seed,
        [_pair(runs, metric) for metric in metric_columns(results)],
        f"{np.mean([run.parameters for run in runs]):,.0f}",
        engineering(float(np.mean([run.multiply_adds for run in runs]))),
        engineering(float(np.mean(costs))) if any(costs) else NONE,
    )


def _pair(runs: list[Run], metric: str) -> Pair:
    before, after = (metric_values(runs, model, metric) for model in MODELS)
    if before is None or after is None:
        return Pair(NONE, NONE, "")
    step = float(np.mean(after) - np.mean(before))
    trend = ""
    if points(step) != "0.0":
        trend = f"{'up' if step > 0 else 'down'} {'better' if (step > 0) != (metric == 'ece') else 'worse'}"
    return Pair(mean_and_sd(before), mean_and_sd(after), trend)


def mean_and_sd(values: list[float]) -> str:
    """`81.2`, or `81.2 ± 1.3` for several values, in percent."""
    text = f"{100 * np.mean(values):.1f}"
    return text if len(values) == 1 else f"{text} ± {100 * np.std(values, ddof=1):.1f}"


def engineering(value: float) -> str:
    """Three significant digits with k, M, G, T, P or E."""
    for unit in ("", "k", "M", "G", "T", "P"):
        if value < 999.5:
            return f"{value:.3g} {unit}".rstrip()
        value /= 1000
    return f"{value:.3g} E"


def comparison_rows(comparisons: list[Comparison]) -> list[ComparisonRow]:
    """The comparisons, formatted; a single seed has no interval."""
    rows = []
    for comparison in comparisons:
        paired, difference = comparison.paired, comparison.paired.difference
        interval = "no interval"
        if difference.low is not None and difference.high is not None:
            interval = f"{points(difference.low)} to {points(difference.high)}"
        rows.append(
            ComparisonRow(
                METRIC_TITLES[comparison.metric],
                comparison.model,
                comparison.method,
                comparison.baseline,
                points(difference.mean),
                interval,
                _p_cell(paired.p_value),
                _p_cell(comparison.adjusted_p),
                NONE if paired.detectable is None else f"{100 * paired.detectable:.1f}",
                comparison.told_apart,
            )
        )
    return rows


def _p_cell(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def class_rows(run: Run) -> list[ClassRow]:
    """The run's classes from the most to the least frequent."""
    group = {index: name for name in GROUPS for index in getattr(run.groups, name)}
    rows = []
    for index in size_order(run.counts):
        before, after = (float(run.recall[model][index]) for model in MODELS)
        known = bool(np.isfinite(before) and np.isfinite(after))
        rows.append(
            ClassRow(
                run.classes[index],
                group[int(index)],
                f"{run.counts[index]:,}",
                f"{100 * before:.1f}" if known else NONE,
                f"{100 * after:.1f}" if known else NONE,
                points(after - before) if known else NONE,
            )
        )
    return rows
