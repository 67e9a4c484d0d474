"""Methods against the baselines of the study, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from tailnas.foundation.settings import NATURAL
from tailnas.report.runs import MODELS, Factor, Results
from tailnas.report.statistics import LEVEL, Spread, holm, sign_flip_test, smallest_detectable_difference, spread
from tailnas.report.summary import seed_values

BASELINES = ("darts", "random")
COMPARED_METRICS = ("top1", "few")
COLUMNS = (
    *("imbalance_factor", "metric", "model", "method", "baseline", "seeds"),
    *("difference", "low", "high", "detectable", "p", "p_holm"),
)


@dataclass(frozen=True)
class Comparison:
    """`method` minus `baseline` in `metric` (fractions) of one model at one imbalance factor, paired over seeds.

    p_value: of the sign-flip test; adjusted_p: by Holm over the methods compared with this baseline in this metric,
    model and factor; detectable: the smallest difference found with 80 % power. All are None for a single seed, and
    detectable where the differences are all alike. A seed's value is the mean over its retrainings.
    """

    factor: Factor
    metric: str
    model: str
    baseline: str
    method: str
    difference: Spread
    p_value: float | None = None
    adjusted_p: float | None = None
    detectable: float | None = None

    @property
    def told_apart(self) -> bool:
        return self.adjusted_p is not None and self.adjusted_p < LEVEL


def compare_methods(results: Results, factor: Factor) -> list[Comparison]:
    """Every method against `darts` and against `random`, where the study has them, at one imbalance factor."""
    families = product(COMPARED_METRICS, MODELS, [name for name in BASELINES if name in results.methods])
    return [row for family in families for row in _family(results, factor, *family)]


def _family(results: Results, factor: Factor, metric: str, model: str, baseline: str) -> list[Comparison]:
    values = {method: seed_values(results.of(method, factor), model, metric) for method in results.methods}
    reference = values.pop(baseline)
    if reference is None:
        return []
    pairs = {method: np.subtract(own, reference).tolist() for method, own in values.items() if own is not None}
    family = [Comparison(factor, metric, model, baseline, name, spread(pairs[name])) for name in pairs]
    if len(reference) == 1:
        return family
    p_values = [sign_flip_test(tuple(differences)) for differences in pairs.values()]
    detectable = [
        smallest_detectable_difference(row.difference.sd, len(reference)) if row.difference.sd else None
        for row in family
    ]
    tested = zip(family, p_values, holm(p_values), detectable, strict=True)
    return [replace(row, p_value=p, adjusted_p=adjusted, detectable=least) for row, p, adjusted, least in tested]


def comparisons_frame(results: Results) -> pd.DataFrame:
    """One row per comparison, in points: difference, ends of its t interval, what was detectable; then p values."""
    rows = []
    for row in (row for factor in results.factors for row in compare_methods(results, factor)):
        names, difference = (row.factor, row.metric, row.model, row.method, row.baseline), row.difference
        measured = (difference.mean, difference.low, difference.high, row.detectable)
        points = [None if value is None else 100 * value for value in measured]
        rows.append((*names, difference.n, *points, row.p_value, row.adjusted_p))
    return pd.DataFrame(rows, columns=[*COLUMNS])


def comparisons_table(frame: pd.DataFrame) -> str:
    """Top-1 differences for the terminal, of what `comparisons_frame` gives or its CSV; ASCII, empty for one seed.

    `nan` stands where differences that are all alike leave an interval unknown.
    """
    shown = frame[(frame["metric"] == "top1") & (frame["seeds"] > 1)]
    lines = []
    for (factor, model), rows in shown.groupby(["imbalance_factor", "model"], sort=False):
        title = "The data's own imbalance factor" if factor == NATURAL else f"Imbalance factor {factor}"
        lines += ["", f"{title}, top-1 {model}, points, paired by seed [95 % t interval]"]
        for row in rows.itertuples():
            lines.append(
                f"{row.method:>15} - {row.baseline:<6} {row.difference:+5.1f} [{row.low:+5.1f}, {row.high:+5.1f}]"
                f"  sign-flip p {row.p:.3f}, Holm {row.p_holm:.3f}, detectable {row.detectable:.1f}"
            )
    return "\n".join(lines[1:])
