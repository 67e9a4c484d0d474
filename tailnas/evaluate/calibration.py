"""What a calibrated network's probabilities are worth on the test set (method: section 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailnas.calibration.conformal import prediction_sets
from tailnas.calibration.decisions import risk_coverage
from tailnas.calibration.errors import (
    adaptive_calibration_error,
    brier_score,
    confidence_bins,
    error_by_chance,
    expected_calibration_error,
)
from tailnas.calibration.priors import estimated_prior, under_prior
from tailnas.calibration.temperature import scaled
from tailnas.evaluate.metrics import GROUPS, Groups
from tailnas.foundation.seeding import numpy_generator

COVERAGES = tuple(tenth / 10 for tenth in range(1, 11))
DRAWS = 200
"""Sets of outcomes by which the calibration error that chance alone makes is told."""

PRIORS = ("forward", "uniform", "backward")


class Calibrated(Protocol):
    """What a network says of its probabilities."""

    temperature: float
    prior: tuple[float, ...]
    class_thresholds: tuple[float, ...] | None
    miss: float | None


def calibration(
    network: Calibrated,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    counts: Sequence[int],
    groups: Groups,
    bins: int,
) -> dict[str, Any]:
    """What metrics.json holds under `calibration`.

    network: temperature, prior and sets. probabilities: (N, K) of the test images at temperature 1. labels: (N,).
    counts: (K,) training images. `before` and `after` the temperature: ece, adaptive_ece, brier of all images and of
    each group's (None where it has no image), the ece that as many images would show by chance if the probabilities
    meant what they say, and the reliability of each confidence bin that holds images.
    risk_coverage: the error among the most confident images, at least that share of them. sets: None without any, else
    for each class its test images, the share whose set holds the class (None without an image), their mean set size,
    and whether it had images enough for the guarantee. priors: accuracy where classes occur as in training (forward),
    alike (uniform), or the other way round (backward): as it is, told the prior, and with the prior estimated.
    """
    after = scaled(np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)), network.temperature)
    classes = {name: np.isin(labels, getattr(groups, name)) for name in GROUPS}
    coverage, risk = risk_coverage(after.max(axis=1), after.argmax(axis=1) == labels)
    reached = np.searchsorted(coverage, np.asarray(COVERAGES) - 1e-12)
    return {
        "temperature": network.temperature,
        **{
            name: {
                **_errors(values, labels, bins),
                "ece_by_chance": error_by_chance(values, bins, DRAWS, numpy_generator(0, "evaluate", "outcomes")),
                "groups": {
                    group: _errors(values[own], labels[own], bins) if own.any() else None
                    for group, own in classes.items()
                },
                "reliability": _reliability(values, labels, bins),
            }
            for name, values in {"before": probabilities, "after": after}.items()
        },
        "risk_coverage": [
            {"coverage": float(coverage[place]), "risk": float(risk[place])} for place in dict.fromkeys(reached)
        ],
        "sets": _sets(network, after, labels),
        "priors": _priors(network, after, labels, counts),
    }


def _errors(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int) -> dict[str, float]:
    return {
        "ece": expected_calibration_error(probabilities, labels, bins),
        "adaptive_ece": adaptive_calibration_error(probabilities, labels, bins),
        "brier": brier_score(probabilities, labels),
    }


def _reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int) -> list[dict[str, Any]]:
    """Images, mean confidence and accuracy of each bin of `expected_calibration_error` that holds any."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    index = confidence_bins(confidence, bins)
    return [
        {
            "images": int(own.sum()),
            "confidence": float(confidence[own].mean()),
            "accuracy": float(correct[own].mean()),
        }
        for own in (index == place for place in range(bins))
        if own.any()
    ]


def _sets(network: Calibrated, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any] | None:
    if network.class_thresholds is None:
        return None
    inside = prediction_sets(probabilities, network.class_thresholds)
    sizes, covered = inside.sum(axis=1), inside[np.arange(len(labels)), labels]
    classes = []
    for c, threshold in enumerate(network.class_thresholds):
        own = labels == c
        classes.append(
            {
                "images": int(own.sum()),
                "coverage": float(covered[own].mean()) if own.any() else None,
                "size": float(sizes[own].mean()) if own.any() else None,
                "guaranteed": threshold > 0,
            }
        )
    return {"miss": network.miss, "coverage": float(covered.mean()), "size": float(sizes.mean()), "classes": classes}


def _priors(
    network: Calibrated, probabilities: NDArray[np.float64], labels: NDArray[np.int64], counts: Sequence[int]
) -> dict[str, dict[str, float]]:
    sizes = np.asarray(counts, np.float64)
    order = np.argsort(-sizes, kind="stable")
    backward = np.empty_like(sizes)
    backward[order] = sizes[order[::-1]]
    tested = np.bincount(labels, minlength=len(sizes))
    results = {}
    for name, prior in zip(PRIORS, (sizes, np.ones_like(sizes), backward), strict=True):
        weights = (prior / np.maximum(tested, 1))[labels]

        def accuracy(values: NDArray[np.float64], weights: NDArray[np.float64] = weights) -> float:
            return float(np.average(values.argmax(axis=1) == labels, weights=weights))

        estimated = estimated_prior(probabilities, network.prior, weights, tolerance=1e-6)
        results[name] = {
            "as_it_is": accuracy(probabilities),
            "told": accuracy(under_prior(probabilities, network.prior, prior)),
            "estimated": accuracy(under_prior(probabilities, network.prior, estimated)),
        }
    return results
