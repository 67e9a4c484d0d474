"""Cross-entropy: no answer to imbalance, and what all others are compared with."""

from torch import Tensor

from tailnas.imbalance.losses.loss import Loss, cross_entropy


class CrossEntropy(Loss):
    """-log softmax(z)_y."""

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        return cross_entropy(logits, labels, weight, reduction)
