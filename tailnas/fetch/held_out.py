"""A test part, taken away before any training data is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailnas.foundation.seeding import numpy_generator


def held_out_part(labels: NDArray[np.int64], wanted: Sequence[int], seed: int, name: str) -> NDArray[np.bool_]:
    """A mask (N,) with `wanted[c]` images of each class c, chosen by the data set's own seed.

    The choice knows nothing of a run's seed, so every run is tested on the same images. Raises ValueError where a
    class has fewer images.
    """
    test = np.zeros(len(labels), np.bool_)
    for c, count in enumerate(wanted):
        members = np.flatnonzero(labels == c)
        if len(members) < count:
            raise ValueError(f"class {c} has {len(members)} images; allowed: at least {count}")
        test[numpy_generator(seed, "test part", name, c).permutation(members)[:count]] = True
    return test
