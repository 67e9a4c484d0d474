"""Methods against the baselines of the study, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
