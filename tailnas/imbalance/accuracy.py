"""Accuracy that counts every class alike."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced_accuracy(labels: Tensor, predictions: Tensor, num_classes: int) -> float:
    """Mean recall over the classes that `labels` holds. labels, predictions: int64 (N,) on one device."""
    total = torch.bincount(labels, minlength=num_classes)
    hit = torch.bincount(labels[predictions == labels], minlength=num_classes)
    present = total > 0
    return float((hit[present].double() / total[present].double()).mean())
