"""Which model file of the study to use."""

from __future__ import annotations

import numpy as np

from tailnas.report.findings.finding import Finding, percent
from tailnas.report.recalls import pooled
from tailnas.report.runs import MODELS, Factor, Results, Run
from tailnas.report.summary import mean_metric

FOLDERS = {"retrained": "retrain", "adapted": "adapt"}
RULE = (
    "the method, imbalance factor and network whose balanced accuracy is highest on average over all their runs, and "
    "of these runs the first, since to take the best of them would be to take the luckiest"
)


def best_model(results: Results) -> tuple[Run, str, float]:
    """The run and network (`retrained` or `adapted`) by RULE, and the mean balanced accuracy of its kind.

    Ties go to the one that stands first in the study, retrained before adapted.
    """
    kinds = [
        (_balanced_accuracy(results, factor, method, model), results.of(method, factor)[0], model)
        for factor in results.factors
        for method in results.methods
        for model in MODELS
    ]
    mean, run, model = kinds[int(np.argmax([mean for mean, *_ in kinds]))]
    return run, model, mean


def _balanced_accuracy(results: Results, factor: Factor, method: str, model: str) -> float:
    """Mean over runs; of folds, which may lack a class each, that of all test images together."""
    if results.folds and (every := pooled(results, factor, method, model)) is not None:
        return every.of("balanced_accuracy").share
    return mean_metric(results.of(method, factor), model, "balanced_accuracy") or 0.0


def best_findings(results: Results) -> list[Finding]:
    """The path of the best model file."""
    run, model, mean = best_model(results)
    text = (
        f"results/runs/{run.name}/{FOLDERS[model]}/model.safetensors is the model to use: {run.method}, {model} "
        f"({percent(mean)} balanced accuracy). The rule: {RULE}. Test images took part in this choice, so expect a "
        "little less on others."
    )
    return [Finding("note", text)]
