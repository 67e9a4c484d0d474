"""Label-aware smoothing: labels of large classes are smoothed more (MiSLAS, 2104.00466, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.imbalance.class_weights import checked_counts

_SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "concave": lambda x: torch.sin(math.pi / 2 * x),
    "linear": lambda x: x,
    "convex": lambda x: 1 + torch.sin(math.pi / 2 * (3 + x)),
}
"""How far a class is from the smallest one's smoothing to the largest one's; x grows with its size from 0 to 1."""

SMOOTHING_SHAPES = tuple(_SHAPES)


def class_smoothing(counts: Sequence[int] | Tensor, largest: float, smallest: float, shape: str) -> Tensor:
    """Smoothing of each class, eps_c = smallest + (largest - smallest) f(x_c), x_c = (n_c - n_min) / (n_max - n_min).

    counts: images of each class, (K,), each at least 1. f: sin(pi x / 2) for `concave`, x for `linear`,
    1 + sin(3 pi / 2 + pi x / 2) for `convex`. Where all classes are of one size, each has `largest`. Computed in
    float64, returned as the default float type, (K,). Raises ValueError for numbers out of range.
    """
    n = checked_counts(counts)
    if shape not in _SHAPES:
        raise ValueError(f"shape: {shape!r}; allowed: {', '.join(_SHAPES)}")
    if not 0 <= smallest <= largest < 1:
        raise ValueError(f"largest, smallest: {largest}, {smallest}; allowed: 0 <= smallest <= largest < 1")
    span = n.max() - n.min()
    x = (n - n.min()) / span if bool(span > 0) else torch.ones_like(n)
    return (smallest + (largest - smallest) * _SHAPES[shape](x)).to(torch.get_default_dtype())


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy with 1 - eps_y for the label and eps_y / (K - 1) for each other class (MiSLAS, section 3.2).

    logits: (N, K), K at least 2. smoothing: eps of each class, (K,). weight, reduction: as in `Loss`.
    """
    log_p = F.log_softmax(logits, dim=1)
    own = log_p.gather(1, labels[:, None]).squeeze(1)
    eps = smoothing.to(logits)[labels]
    losses = -(1 - eps) * own - eps / (logits.shape[1] - 1) * (log_p.sum(1) - own)
    weights = torch.ones_like(losses) if weight is None else weight.to(losses)[labels]
    return weights * losses if reduction == "none" else (weights * losses).sum() / weights.sum()
