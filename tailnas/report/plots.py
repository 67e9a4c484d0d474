"""Tables for `dvc plots`, in long form over all runs of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tailnas.report.runs import MODELS, Results, Run


def search_frame(results: Results) -> pd.DataFrame:
    """Histories of all searches by gradient: `run` (the first of the search), `method`, `imbalance_factor`, `seed`,
    `epoch`, and what was recorded.
    """
    frames = [
        _keyed(run, run.search.drop(columns="genotype").to_dict("series")).drop(columns="retrain_seed")
        for run in results.searches
        if run.searched
    ]
    if not frames:
        return pd.DataFrame(columns=["run", "method", "imbalance_factor", "seed", "epoch"])
    return pd.concat(frames, ignore_index=True)


def per_class_frame(results: Results) -> pd.DataFrame:
    """One row per run, model and class: `class`, `name`, `count` (training images), `recall`, `images` (test
    images), `low` and `high` (Wilson's 95 % interval).
    """
    frames = []
    for run in results.runs:
        classes = {"class": range(len(run.classes)), "name": run.classes, "count": run.counts}
        for model in MODELS:
            ends = np.array([interval or (np.nan, np.nan) for interval in run.intervals(model)])
            measured = {"recall": run.recall[model], "images": run.tested, "low": ends[:, 0], "high": ends[:, 1]}
            frames.append(_keyed(run, {"model": model, **classes, **measured}))
    return pd.concat(frames, ignore_index=True)


def confusion_frame(results: Results) -> pd.DataFrame:
    """One row per test image, as DVC's `confusion` template counts them: `method`, `actual`, `predicted`.

    Of the adapted networks at the first imbalance factor, seed and retrain seed, so that the table stays small.
    """
    frames = []
    for run in results.searches:
        if (run.factor, run.seed) != (results.factors[0], results.seeds[0]):
            continue
        matrix = run.confusion["adapted"]
        actual, predicted = np.nonzero(matrix)
        times = matrix[actual, predicted]
        names = np.asarray(run.classes, dtype=object)
        frame = pd.DataFrame({"method": run.method, "actual": names[actual], "predicted": names[predicted]})
        frames.append(frame.loc[np.repeat(frame.index, times)])
    return pd.concat(frames, ignore_index=True)


def _keyed(run: Run, columns: Mapping[Any, Any]) -> pd.DataFrame:
    keys = {"run": run.name, "method": run.method, "imbalance_factor": run.factor, "seed": run.seed}
    return pd.DataFrame({**keys, "retrain_seed": run.retrain_seed, **columns})
