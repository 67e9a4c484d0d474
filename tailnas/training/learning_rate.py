"""Learning rate of the weights over training."""

import math


def cosine_learning_rate(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at progress 1 (DARTS, 1806.09055, section 3.1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
