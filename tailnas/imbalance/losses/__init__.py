"""What a classifier on long-tailed data minimises: one module a family, each with one class of `Loss`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import cast

import torch
from torch import Tensor

from tailnas.imbalance.losses.ldam import ldam_margins as ldam_margins
from tailnas.imbalance.losses.loss import Loss, LossSettings
from tailnas.imbalance.losses.weights import class_balanced_weights as class_balanced_weights

LOSSES = {
    "cross_entropy": "CrossEntropy",
    "class_balanced": "ClassBalanced",
    "focal": "Focal",
    "ldam": "LDAM",
    "balanced_softmax": "BalancedSoftmax",
    "logit_adjustment": "LogitAdjustment",
}
"""Each loss is the class named here, of the module with the loss's own name."""


def make_loss(
    name: str, settings: LossSettings, counts: Sequence[int] | Tensor, device: torch.device | str = "cpu"
) -> Loss:
    """The loss `name` for training data with `counts` (K,) images of each class, of logits on `device`.

    Raises ValueError for an unknown name or a number out of range.
    """
    if name not in LOSSES:
        raise ValueError(f"loss: {name!r} is not known; allowed: {', '.join(LOSSES)}")
    family = getattr(import_module(f"{__name__}.{name}"), LOSSES[name])
    return cast(Loss, family(settings, counts, device))
