"""Numbers of the report's tables as readers see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tailnas.report.findings.finding import p_text, points
from tailnas.report.runs import MODELS, Factor, Results, Run
from tailnas.report.summary import TABLE_METRICS, seed_values

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
    pretraining: str


def metric_columns(results: Results) -> tuple[str, ...]:
    """Metrics of the results table; balanced accuracy first where it differs from top-1 (an uneven test set)."""
    return (*(() if balanced_test(results) else ("balanced_accuracy",)), *TABLE_METRICS, "ece")


def balanced_test(results: Results) -> bool:
    """Whether top-1 is balanced accuracy in every run, as it is on an exactly balanced test set."""
    values = [run.metrics[model] for run in results.runs for model in MODELS]
    return all(abs((v["top1"] or 0.0) - (v["balanced_accuracy"] or 0.0)) < 1e-9 for v in values)


def run_rows(results: Results, factor: Factor) -> list[ResultRow]:
    """One row per run at one imbalance factor."""
    several = len(results.retrain_seeds) > 1
    return [
        _result_row(results, [run], run.method, f"{run.seed}, {run.retrain_seed}" if several else str(run.seed))
        for run in results.of(factor=factor)
    ]


def mean_rows(results: Results, factor: Factor) -> list[ResultRow]:
    """One row per method at one imbalance factor: mean and standard deviation over its seeds, each the mean of its
    retrainings.
    """
    seeds = str(len(results.seeds))
    return [_result_row(results, results.of(method, factor), method, seeds) for method in results.methods]


def _result_row(results: Results, runs: list[Run], name: str, seed: str) -> ResultRow:
    costs = [run.cost.total for run in runs]
    pretraining = [results.pretraining_cost(run) for run in runs]
    return ResultRow(
        name,
        seed,
        [_pair(runs, metric) for metric in metric_columns(results)],
        f"{np.mean([run.parameters for run in runs]):,.0f}",
        engineering(float(np.mean([run.multiply_adds for run in runs]))),
        engineering(float(np.mean(costs))) if any(costs) else NONE,
        engineering(float(np.mean(pretraining))) if any(pretraining) else NONE,
    )


def _pair(runs: list[Run], metric: str) -> Pair:
    before, after = (seed_values(runs, model, metric) for model in MODELS)
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


def _or_dash(form: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: NONE if value is None or np.isnan(value) else form(value)


def _interval(ends: Sequence[float]) -> str:
    return NONE if ends[0] != ends[0] else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


FILTERS = {
    "percent": _or_dash(lambda share: f"{100 * share:.1f}"),
    "points": _or_dash(points),
    "interval": _interval,
    "p": _or_dash(lambda value: p_text(value).removeprefix("= ")),
}
"""How the template writes fractions, their differences and p values; a dash for what was not measured."""
