"""Cross-entropy: no answer to imbalance, and what all others are compared with.

With `retrain.reweighting` it is the class-balanced loss (Cui et al. 2019, 1901.05555), deferred it is DRW.
"""

from tailnas.foundation.settings import Section
from tailnas.retrain.loss import Loss


class Settings(Section):
    """Cross-entropy has no settings."""


class CrossEntropy(Loss):
    """-log softmax(z)_y."""
