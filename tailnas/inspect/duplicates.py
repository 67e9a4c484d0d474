"""Images that are there twice, to the pixel or nearly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

CORRELATION = 0.98
"""Of two fingerprints, from which on they are of nearly the same picture: on CIFAR-10 it finds true copies alone."""

ROWS_AT_ONCE = 1024


def same_groups(digests: pd.Series) -> NDArray[np.int64]:
    """(N,) a number for each group of two or more equal digests, -1 for the others and for empty ones."""
    counts = digests.map(digests.value_counts())
    repeated = (counts > 1) & (digests != "")
    groups = np.full(len(digests), -1, np.int64)
    groups[repeated.to_numpy()] = pd.factorize(digests[repeated])[0]
    return groups


def near_groups(prints: NDArray[np.float32], least: float = CORRELATION) -> NDArray[np.int64]:
    """(N,) a number for each group of images that chains of pairs correlating at `least` or more tie, else -1.

    prints: (N, D) of norm 1; those of norm 0 belong to no group. Compares all pairs: N^2 D multiply-adds.
    """
    rows, columns = [], []
    starts = range(0, len(prints), ROWS_AT_ONCE)
    for start in tqdm(starts, desc="comparing", leave=False, disable=None):
        alike = prints[start : start + ROWS_AT_ONCE] @ prints[start:].T >= least
        first, second = np.nonzero(np.triu(alike, 1))
        rows.append(first + start)
        columns.append(second + start)
    pairs = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(pairs[0]), np.bool_), pairs), shape=(len(prints), len(prints)))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)[labels]
    groups = np.full(len(prints), -1, np.int64)
    groups[sizes > 1] = pd.factorize(labels[sizes > 1])[0]
    return groups
