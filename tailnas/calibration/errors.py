"""How far probabilities are from what happens."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> float:
    """Mean gap between confidence and accuracy over `bins` equal confidence bins (lower, upper], weighted by images.

    `probabilities` (N, K), `labels` (N,). Guo et al., 1706.04599, equation 3.
    """
    p = np.asarray(probabilities, np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def adaptive_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> float:
    """The same with bins of equally many images, as even as can be (Nguyen and O'Connor 2015, 1508.05154; adaptive as
    Nixon et al. 2019, 1904.01685, have it for each class, here for the most probable one).

    `probabilities` (N, K), `labels` (N,).
    """
    p = np.asarray(probabilities, np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    order = np.argsort(confidence, kind="stable")
    gaps = [abs(float((correct[part] - confidence[part]).sum())) for part in np.array_split(order, bins)]
    return sum(gaps) / len(confidence)


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of the probabilities (N, K) from the true class's corner, 0 to 2 (Brier 1950)."""
    p = np.asarray(probabilities, np.float64)
    corner = np.eye(p.shape[1])[np.asarray(labels)]
    return float(((p - corner) ** 2).sum(axis=1).mean())
