"""Methods against the baselines of the study, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from tailnas.evaluation.runs import MODELS, Results
from tailnas.evaluation.statistics import LEVEL, PairedComparison, compare_pairs, holm
from tailnas.evaluation.summary import metric_values

BASELINES = ("darts", "random")
COMPARED_METRICS = ("top1", "few")


@dataclass(frozen=True)
class Comparison:
    """`method` minus `baseline` in `metric` (fractions) of one model at one imbalance factor, paired over seeds."""

    factor: int | float
    metric: str
    model: str
    baseline: str
    method: str
    paired: PairedComparison
    adjusted_p: float | None
    """Holm over the methods compared with this baseline in this metric, model and factor."""

    @property
    def told_apart(self) -> bool:
        return self.adjusted_p is not None and self.adjusted_p < LEVEL


def compare_methods(results: Results, factor: int | float) -> list[Comparison]:
    """Every method against `darts` and against `random`, where the study has them, at one imbalance factor."""
    found = []
    for metric in COMPARED_METRICS:
        for model in MODELS:
            for baseline in (name for name in BASELINES if name in results.methods):
                found += _family(results, factor, metric, model, baseline)
    return found


def _family(results: Results, factor: int | float, metric: str, model: str, baseline: str) -> list[Comparison]:
    reference = metric_values(results.of(baseline, factor), model, metric)
    family = []
    for method in results.methods:
        values = metric_values(results.of(method, factor), model, metric)
        if method == baseline or reference is None or values is None:
            continue
        paired = compare_pairs(values, reference)
        family.append(Comparison(factor, metric, model, baseline, method, paired, None))
    p_values = [row.paired.p_value for row in family if row.paired.p_value is not None]
    if len(p_values) < len(family):
        return family
    return [replace(row, adjusted_p=p) for row, p in zip(family, holm(p_values), strict=True)]


def comparisons_frame(results: Results) -> pd.DataFrame:
    """One row a comparison, in percentage points: difference, ends of its t interval, p values, what was detectable."""
    rows = [
        {
            "imbalance_factor": row.factor,
            "metric": row.metric,
            "model": row.model,
            "method": row.method,
            "baseline": row.baseline,
            "seeds": row.paired.difference.n,
            "difference": 100 * row.paired.difference.mean,
            **{
                name: None if value is None else 100 * value
                for name, value in (
                    ("low", row.paired.difference.low),
                    ("high", row.paired.difference.high),
                    ("detectable", row.paired.detectable),
                )
            },
            "p": row.paired.p_value,
            "p_holm": row.adjusted_p,
        }
        for factor in results.factors
        for row in compare_methods(results, factor)
    ]
    columns = ["imbalance_factor", "metric", "model", "method", "baseline", "seeds", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "detectable", "p", "p_holm"])


def comparisons_table(frame: pd.DataFrame) -> str:
    """Top-1 differences for the terminal, from what `comparisons_frame` gives or its CSV; plain ASCII, empty for one
    seed.
    """
    shown = frame[(frame["metric"] == "top1") & (frame["seeds"] > 1)]
    lines = []
    for (factor, model), rows in shown.groupby(["imbalance_factor", "model"], sort=False):
        lines += ["", f"Imbalance factor {factor}, top-1 {model}, points, paired by seed [95 % t interval]"]
        for row in rows.itertuples():
            lines.append(
                f"{row.method:>15} - {row.baseline:<6} {row.difference:+5.1f} [{row.low:+5.1f}, {row.high:+5.1f}]"
                f"  sign-flip p {row.p:.3f}, Holm {row.p_holm:.3f}, detectable {row.detectable:.1f}"
            )
    return "\n".join(lines[1:])
