"""Class weights of the re-weighted losses (method: section 8)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def class_balanced_weights(counts: Sequence[int] | Tensor, beta: float) -> Tensor:
    """Weights (1 - beta) / (1 - beta^n_c), scaled to sum to K (class-balanced loss, 1901.05555, equation 4).

    counts: images of each class, (K,), each at least 1. beta: in [0, 1); 0 gives all ones.
    Computed in float64, returned as the default float type, (K,). Raises ValueError for numbers out of range.
    """
    n = checked_counts(counts)
    if not 0 <= beta < 1:
        raise ValueError(f"beta: {beta}; allowed: at least 0, below 1")
    if beta == 0:
        return torch.ones(len(n))
    # expm1 keeps the digits that 1 - beta^n would lose for beta near 1
    weights = (1 - beta) / -torch.expm1(n * torch.log1p(torch.tensor(beta - 1, dtype=torch.float64)))
    return (weights * (len(n) / weights.sum())).to(torch.get_default_dtype())


def checked_counts(counts: Sequence[int] | Tensor) -> Tensor:
    """`counts` as float64 (K,). Raises ValueError for a class without images or a number that is none."""
    n = torch.as_tensor(counts, dtype=torch.float64)
    if n.ndim != 1 or len(n) == 0 or not bool((n >= 1).all()) or not bool(torch.isfinite(n).all()):
        raise ValueError(f"counts: {n.tolist()}; allowed: one number of at least 1 for each class")
    return n
