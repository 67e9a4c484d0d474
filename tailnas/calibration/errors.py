"""How far probabilities are from what happens."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int) -> float:
    """Mean gap between confidence and accuracy over `bins` equal confidence bins (lower, upper], weighted by images.

    `probabilities` (N, K), `labels` (N,). Guo et al., 1706.04599, equation 3.
    """
    p = np.asarray(probabilities, np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    return _gap(confidence, correct, confidence_bins(confidence, bins), bins)


def error_by_chance(probabilities: ArrayLike, bins: int, draws: int, generator: np.random.Generator) -> float:
    """Mean `expected_calibration_error` that probabilities (N, K) have on N images by chance, if they mean what they
    say: over `draws` sets of outcomes drawn from the confidences themselves (consistency resampling: Bröcker and Smith
    2007; Vaicenavicius et al. 2019, 1902.06977).
    """
    confidence = np.asarray(probabilities, np.float64).max(axis=1)
    index = confidence_bins(confidence, bins)
    drawn = (generator.random(len(confidence)) < confidence for _ in range(draws))
    return float(np.mean([_gap(confidence, correct, index, bins) for correct in drawn]))


def confidence_bins(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """(N,) the bin (lower, upper] of each confidence, 0 to bins - 1."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _gap(confidence: NDArray[np.float64], correct: NDArray[np.bool_], index: NDArray[np.int64], bins: int) -> float:
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
