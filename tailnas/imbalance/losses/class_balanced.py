"""The class-balanced loss (Cui et al. 2019, 1901.05555)."""

from tailnas.imbalance.losses.cross_entropy import CrossEntropy


class ClassBalanced(CrossEntropy):
    """Cross-entropy in which class c weighs (1 - beta) / (1 - beta^n_c), scaled to sum to K.

    Deferred, it is cross-entropy with DRW, by either name.
    """

    weighted = True
