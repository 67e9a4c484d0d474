"""The study in numbers: one row per run, means over seeds, and the table that the terminal shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tailnas.evaluate.metrics import GROUPS
from tailnas.report.runs import METRICS, MODELS, Results, Run, factor_title

TABLE_METRICS = ("top1", "macro_f1", *GROUPS)
METRIC_TITLES = {
    "top1": "Top-1",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "ece": "Calibration error",
    "many": "Many-shot",
    "medium": "Medium-shot",
    "few": "Few-shot",
}


def summary_frame(results: Results) -> pd.DataFrame:
    """One row per run: `run`, `method`, `imbalance_factor`, seeds, sizes, `<model>_<metric>` in fractions, the ends
    `<model>_<metric>_low` and `_high` of their 95 % intervals by the test images, costs, and the genotype in one line
    of JSON, as `search.given.genotypes` takes it.

    Search cost is counted in multiply-adds (of one image's forward pass, times the images seen), never in seconds.
    Pretraining is that of the super-network which the search started from; all searches of a seed share it.
    """
    return pd.DataFrame([_row(results, run) for run in results.runs])


def _row(results: Results, run: Run) -> dict[str, Any]:
    last = run.search.iloc[-1]
    return {
        "run": run.name,
        "method": run.method,
        "imbalance_factor": run.factor,
        "measured_factor": round(run.measured_factor, 3),
        "seed": run.seed,
        "retrain_seed": run.retrain_seed,
        "parameters": run.parameters,
        "multiply_adds": run.multiply_adds,
        "test_images": run.test_images,
        "group_rule": run.groups.rule,
        **{f"{model}_{metric}": run.metrics[model][metric] for model in MODELS for metric in METRICS},
        **{
            f"{model}_{metric}_{end}": np.nan if ends is None else ends[index]
            for model in MODELS
            for metric, ends in run.intervals[model].items()
            for index, end in enumerate(("low", "high"))
        },
        "search_optimiser_steps": run.cost.optimiser_steps,
        "search_images": run.cost.images,
        "search_multiply_adds": run.cost.total,
        "pretrain_multiply_adds": results.pretraining_cost(run),
        "skip_share": last.get("skip_share", np.nan),
        "softmax_movement": last.get("softmax_movement", np.nan),
        "genotype": run.genotype.to_line(),
    }


def metric_values(runs: list[Run], model: str, metric: str) -> list[float] | None:
    """The metric of each run; None where one lacks it or their shot groups follow different rules."""
    if metric in GROUPS and len({run.groups.rule for run in runs}) > 1:
        return None
    known = [value for run in runs if (value := run.metrics[model][metric]) is not None]
    return known if known and len(known) == len(runs) else None


def seed_values(runs: list[Run], model: str, metric: str) -> list[float] | None:
    """The metric of each seed, the mean over its retrainings, in the order of `runs`; None where `metric_values` is."""
    values = metric_values(runs, model, metric)
    if values is None:
        return None
    by_seed: dict[int, list[float]] = {}
    for run, value in zip(runs, values, strict=True):
        by_seed.setdefault(run.seed, []).append(value)
    return [float(np.mean(own)) for own in by_seed.values()]


def mean_metric(runs: list[Run], model: str, metric: str) -> float | None:
    """Mean over runs; None where `metric_values` is."""
    values = metric_values(runs, model, metric)
    return None if values is None else float(np.mean(values))


def study_metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """For DVC: `{"<method>-if<factor>": {"retrained": {metric: mean over seeds}, "adapted": {...}}}`."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for factor in results.factors:
        for method in results.methods:
            runs = results.of(method, factor)
            metrics[f"{method}-if{factor}"] = {
                model: {
                    metric: round(value, 6)
                    for metric in TABLE_METRICS
                    if (value := mean_metric(runs, model, metric)) is not None
                }
                for model in MODELS
            }
    return metrics


def results_table(summary: pd.DataFrame) -> str:
    """The table for the terminal, from what `summary_frame` gives or `pandas.read_csv` of summary.csv; plain ASCII.

    Percentages of the retrained network -> the same with its head adapted; with several seeds their means and the
    standard deviation of top-1 over seeds, each the mean of its retrainings.
    """
    several = summary["seed"].nunique() > 1
    key = "method" if several else "run"
    blocks = []
    for factor, runs in summary.groupby("imbalance_factor", sort=False):
        rows = [[key, "top-1 %", "macro F1 %", "many %", "medium %", "few %", "parameters", "multiply-adds"]]
        for name, same in runs.groupby(key, sort=False):
            cells = [_arrow(same, metric, spread=several and metric == "top1") for metric in TABLE_METRICS]
            sizes = [f"{same[column].mean():,.0f}" for column in ("parameters", "multiply_adds")]
            rows.append([str(name), *cells, *sizes])
        title = f"{factor_title(str(factor), runs['measured_factor'].iloc[0])}, retrained -> head adapted"
        title += f", mean of {summary['seed'].nunique()} seeds (top-1 +- sd)" if several else ", one seed: no interval"
        if "thirds" in set(runs["group_rule"]):
            title += "; many, medium, few are thirds of the classes"
        blocks.append("\n".join([title, *_aligned(rows)]))
    return "\n\n".join(blocks)


def _arrow(runs: pd.DataFrame, metric: str, spread: bool) -> str:
    seeds = runs["seed"] if spread else runs["run"]
    return " -> ".join(_percent(runs[f"{model}_{metric}"], seeds, spread) for model in MODELS)


def _percent(values: pd.Series, seeds: pd.Series, spread: bool) -> str:
    if values.isna().any():
        return "-"
    deviation = 100 * values.groupby(seeds, sort=False).mean().std(ddof=1)
    return f"{100 * values.mean():.1f}" + (f" +- {deviation:.1f}" if spread else "")


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([first.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]) for first, *cells in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
