"""Probabilities under other class frequencies than a model was trained for (Saerens et al. 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = 10_000


def under_prior(probabilities: ArrayLike, assumed: ArrayLike, prior: ArrayLike) -> NDArray[np.float64]:
    """p(c | x) where classes occur with `prior` instead of `assumed` (Bayes): p_c prior_c / assumed_c, rows of sum 1.

    probabilities: (N, K); one of 0 counts as the smallest number, so that a row has a sum whatever `prior` says.
    assumed, prior: (K,), of any scale, assumed above 0.
    """
    p = np.maximum(np.asarray(probabilities, np.float64), np.finfo(np.float64).tiny)
    p = p * (np.asarray(prior, np.float64) / np.asarray(assumed, np.float64))
    return p / p.sum(axis=1, keepdims=True)


def estimated_prior(
    probabilities: ArrayLike, assumed: ArrayLike, weights: ArrayLike | None = None, tolerance: float = 1e-10
) -> NDArray[np.float64]:
    """Class frequencies (K,) among images, from a classifier's probabilities (N, K) for them, without labels.

    The maximum of their likelihood, by expectation maximisation from `assumed` on (Saerens et al. 2002, section 2);
    it takes probabilities that are calibrated under `assumed` (K,). weights: (N,) of the images, all alike by default.
    """
    p, start = np.asarray(probabilities, np.float64), np.asarray(assumed, np.float64)
    prior = start = start / start.sum()
    w = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    for _ in range(STEPS):
        updated = np.average(under_prior(p, start, prior), axis=0, weights=w)
        moved, prior = float(np.abs(updated - prior).max()), updated
        if moved < tolerance:
            break
    return prior
