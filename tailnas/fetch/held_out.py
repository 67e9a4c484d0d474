"""A balanced test part, taken away before any training data is chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tailnas.foundation.seeding import numpy_generator


def balanced_test_part(
    labels: NDArray[np.int64], num_classes: int, per_class: int, seed: int, name: str
) -> NDArray[np.bool_]:
    """A mask (N,) with `per_class` images of each class, chosen by the data set's own seed.

    The choice knows nothing of a run's seed, so every run is tested on the same images. Raises ValueError where a
    class has fewer images.
    """
    test = np.zeros(len(labels), np.bool_)
    for c in range(num_classes):
        members = np.flatnonzero(labels == c)
        if len(members) < per_class:
            raise ValueError(f"class {c} has {len(members)} images; allowed: at least {per_class}")
        test[numpy_generator(seed, "test part", name, c).permutation(members)[:per_class]] = True
    return test
