"""How much of the spread lies between searches, and how much between retrainings of one genotype."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailnas.report.runs import MODELS, Factor, Results
from tailnas.report.statistics import Components, variance_components
from tailnas.report.summary import metric_values

METRICS = ("top1", "few")
COLUMNS = (
    *("imbalance_factor", "metric", "model", "method", "searches", "retrainings"),
    *("sd_between", "sd_within", "share_between", "low", "high"),
)


@dataclass(frozen=True)
class Spreads:
    """Components of one metric and model; `method` is None for all methods together, each about its own mean."""

    factor: Factor
    metric: str
    model: str
    method: str | None
    components: Components


def spreads(results: Results, factor: Factor) -> list[Spreads]:
    """All methods together, then each; empty unless the study has several seeds and several retrain seeds."""
    shape = len(results.seeds), len(results.retrain_seeds)
    if min(shape) < 2:
        return []
    rows = []
    for metric in METRICS:
        for model in MODELS:
            values = {
                method: np.reshape(found, shape)
                for method in results.methods
                if (found := metric_values(results.of(method, factor), model, metric)) is not None
            }
            families: dict[str | None, list[NDArray[np.float64]]] = {method: [own] for method, own in values.items()}
            if len(values) > 1:
                families = {None: list(values.values()), **families}
            rows += [Spreads(factor, metric, model, name, variance_components(own)) for name, own in families.items()]
    return rows


def variance_frame(results: Results) -> pd.DataFrame:
    """One row per component pair, in points; the method `all` is all of them together."""
    rows = []
    for row in (row for factor in results.factors for row in spreads(results, factor)):
        found = row.components
        names = (row.factor, row.metric, row.model, row.method or "all", found.groups, found.members)
        deviations = (100 * found.between**0.5, 100 * found.within**0.5)
        rows.append((*names, *deviations, found.share, found.low, found.high))
    return pd.DataFrame(rows, columns=[*COLUMNS])
