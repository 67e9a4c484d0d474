"""tau-normalisation of the class vectors (Kang et al. 2020, 1910.09217, section 4.2)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from tailnas.adapt.head_task import Chooser, HeadResult, HeadTask
from tailnas.foundation.settings import Section
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.training.checkpoint import Row

TAUS = tuple(step / 10 for step in range(21))
FIXED_TAU = 1.0
LEAST_IMAGES = 5
"""Images of every class without which tau is not chosen but FIXED_TAU."""


class Settings(Section):
    """Class vectors divided by their norm^tau; nothing is trained."""

    tau: Annotated[float, Field(ge=0, le=2)] | None = Field(
        description="null chooses 0, 0.1, ..., 2 on the architecture half of a network trained on the weight half "
        "(which costs a second retraining), or takes 1 where a class has fewer than 5 images there."
    )


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """w_c / ||w_c||^tau for class vectors (K, D)."""
    norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return weight / norms.pow(tau).clamp_min(torch.finfo(weight.dtype).tiny)


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """Class vectors are divided by their norm^tau and the bias is dropped; nothing is trained.

    tau is never chosen on images that the head was trained on: see `Chooser`.
    """
    tau, choice = settings.tau, list[Row]()
    if tau is None:
        tau, choice = chosen_tau(task.chooser)
    with torch.no_grad():
        task.head.weight.copy_(tau_normalised(task.head.weight, tau))
        task.head.bias.zero_()
    return HeadResult([{"epoch": 0, "tau": tau, **task.measure(task.head)}], choice)


def chosen_tau(chooser: Chooser | None) -> tuple[float, list[Row]]:
    """The tau of TAUS with the highest balanced accuracy, the smallest of equals; and a row for each.

    FIXED_TAU and no row where there is nothing to choose on, or too little.
    """
    if chooser is None or chooser.smallest_class < LEAST_IMAGES:
        return FIXED_TAU, []
    weight, features, labels = chooser.train()
    rows: list[Row] = []
    for tau in TAUS:
        predictions = (features @ tau_normalised(weight, tau).T).argmax(1)
        rows.append({"tau": tau, "balanced_accuracy": balanced_accuracy(labels, predictions, len(weight))})
    best = max(rows, key=lambda row: float(row["balanced_accuracy"]))
    return float(best["tau"]), rows
