"""Random generators: one for each purpose, all derived from the run's seed.

Streams with different purposes are independent, so that drawing more from one (say, augmentation) never shifts
another (say, the sampler), and no stage touches the global generators of torch or numpy.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that is a pure function of `seed` and `purpose`, the same on every machine."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def retraining_seed(seed: int, retrain_seed: int) -> int:
    """The seed of a genotype's retraining and head adaptation: the run's own `seed` where `retrain_seed` is 0."""
    return seed if retrain_seed == 0 else seed_for(seed, "retraining", retrain_seed)


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; draws are made on the CPU so that every device sees the same ones."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> numpy.random.Generator:
    """A numpy generator for one purpose."""
    import numpy

    return numpy.random.default_rng(seed_for(seed, *purpose))
