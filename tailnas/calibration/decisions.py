"""What to do with probabilities: the decision of least cost, and abstaining where none is safe."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def least_cost(probabilities: ArrayLike, costs: ArrayLike) -> NDArray[np.int64]:
    """(N,) the decision of least expected cost; of equals the first.

    probabilities: (N, K). costs: (K, D), what it costs to decide d where the class is k.
    """
    expected = np.asarray(probabilities, np.float64) @ np.asarray(costs, np.float64)
    return expected.argmin(axis=1)


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage and risk (share of errors among the images kept) when the least confident are left to a human.

    confidence, correct: (N,). One point for each confidence that occurs, since equals are kept or left together, from
    the most to the least confident (El-Yaniv and Wiener 2010).
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    order = np.argsort(-sure, kind="stable")
    last = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))
    kept = last + 1
    errors = np.cumsum(1 - right[order])[last]
    return kept / len(sure), errors / kept
