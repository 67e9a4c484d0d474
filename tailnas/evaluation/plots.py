"""Tables for `dvc plots`, in long form over all runs of the study."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tailnas.evaluation.runs import MODELS, Results, Run


def search_frame(results: Results) -> pd.DataFrame:
    """Histories of all searched runs: `run`, `method`, `imbalance_factor`, `seed`, `epoch`, and what was recorded."""
    frames = [_keyed(run, run.search.drop(columns="genotype")) for run in results.runs if run.searched]
    if not frames:
        return pd.DataFrame(columns=["run", "method", "imbalance_factor", "seed", "epoch"])
    return pd.concat(frames, ignore_index=True)


def per_class_frame(results: Results) -> pd.DataFrame:
    """One row for each run, model and class: `class`, `name`, `count` (training images), `recall`."""
    frames = [
        _keyed(
            run,
            pd.DataFrame(
                {
                    "model": model,
                    "class": range(len(run.classes)),
                    "name": run.classes,
                    "count": run.counts,
                    "recall": run.recall[model],
                }
            ),
        )
        for run in results.runs
        for model in MODELS
    ]
    return pd.concat(frames, ignore_index=True)


def confusion_frame(results: Results) -> pd.DataFrame:
    """One row for each test image, as DVC's `confusion` template counts them: `method`, `actual`, `predicted`.

    Of the adapted networks at the first imbalance factor and seed, so that the table stays small.
    """
    frames = []
    for run in results.of(factor=results.factors[0], seed=results.seeds[0]):
        matrix = run.confusion["adapted"]
        actual, predicted = np.nonzero(matrix)
        times = matrix[actual, predicted]
        names = np.asarray(run.classes, dtype=object)
        frame = pd.DataFrame({"method": run.method, "actual": names[actual], "predicted": names[predicted]})
        frames.append(frame.loc[np.repeat(frame.index, times)])
    return pd.concat(frames, ignore_index=True)


def _keyed(run: Run, frame: pd.DataFrame) -> pd.DataFrame:
    keys = {"run": run.name, "method": run.method, "imbalance_factor": run.factor, "seed": run.seed}
    return pd.concat([pd.DataFrame([keys] * len(frame)), frame.reset_index(drop=True)], axis=1)
