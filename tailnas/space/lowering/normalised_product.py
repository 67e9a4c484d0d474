"""BatchNorm of a linear map, folded into the map: norm(X @ W^T) = X @ V^T, with V from the covariance of X.

What it buys: a 1x1 convolution, its BatchNorm and the mixture weight on top become one matrix product forward and two
backward; the output of the convolution, its normalised form and their gradients never exist in memory. On a CPU that
halves the passes over the maps. The price is the second moments of X, one matrix product more.

Accuracy: the columns of X must be centred beforehand, so that no small variance is the difference of two large
moments; float32 sums of at most 4096 rows are added in float64. Alpha gradients are as near to float64 as the plain
network's (C8 L5, 32x32, five seeds: 6e-7 to 6e-3 against 5e-7 to 6e-3, the large ones flipped ReLUs). Chosen by the CPU
lowering. All functions work on a batch of n such maps: X is n tensors (rows, K), W is (n, C, K).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS_OF_A_PART = 4096
PARTS = 2
"""At least as many as there are threads, since one product of two flat matrices runs on one thread."""


def covariances(matrices: Iterable[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Of matrices with centred columns, which are also returned: (n, K, K). Each is read while it is in the cache."""
    kept, squares = [], []
    for matrix in matrices:
        kept.append(matrix)
        squares.append(products(matrix, matrix))
    return kept, summed(squares) / len(kept[0])


def products(left: Tensor, right: Tensor) -> Tensor:
    """left^T @ right in parts (PARTS, K, K'), to be added up by `summed`."""
    rows = len(left)
    parts = max(PARTS, rows // ROWS_OF_A_PART)
    if rows % parts:
        return (left.t() @ right).unsqueeze(0)
    lefts, rights = left.view(parts, rows // parts, -1), right.view(parts, rows // parts, -1)
    return torch.bmm(lefts.transpose(1, 2), rights)


def summed(parts: list[Tensor]) -> Tensor:
    """The products (n, K, K') whose parts are given."""
    return torch.stack(parts).sum(1, dtype=torch.float64).to(parts[0].dtype)


@dataclass
class NormalisedProduct:
    """n maps norm(X @ W^T) without affine weights. mean, variance (n, C): BatchNorm's batch statistics (biased)."""

    weights: Tensor
    mean: Tensor
    variance: Tensor
    inverse: Tensor
    product: Tensor
    """W times the covariance (n, C, K)."""

    @staticmethod
    def of(weights: Tensor, removed: Tensor, covariance: Tensor, eps: float) -> "NormalisedProduct":
        """`removed` (n, K): the means that were taken from the columns of X; covariance (n, K, K)."""
        product = torch.bmm(weights, covariance)
        variance = (product * weights).sum(2).clamp_(min=0)
        mean = torch.bmm(weights, removed.unsqueeze(2)).squeeze(2)
        return NormalisedProduct(weights, mean, variance, (variance + eps).rsqrt(), product)

    def folded(self, scale: Tensor | None) -> Tensor:
        """V (n, C, K) with scale * norm(X @ W^T) = X @ V^T. `scale`: (n,), None for ones."""
        return self._factor(scale).unsqueeze(2) * self.weights

    def backward(self, scale: Tensor | None, cross: Tensor, rows: int) -> "Gradients":
        """From cross = G^T @ X (n, C, K) for an output gradient G of so many rows."""
        projection = self.inverse * (self.weights * cross).sum(2)
        factor = self._factor(scale)
        direct = factor.unsqueeze(2) * self.weights
        damping = (factor * self.inverse * projection / -rows).unsqueeze(2)
        through_variance = torch.bmm(self.weights.transpose(1, 2), damping * self.weights)
        weights = factor.unsqueeze(2) * (cross - (self.inverse * projection).unsqueeze(2) * self.product)
        return Gradients(projection.sum(1), direct, through_variance, weights)

    def _factor(self, scale: Tensor | None) -> Tensor:
        return self.inverse if scale is None else scale.unsqueeze(1) * self.inverse


@dataclass
class Gradients:
    """What NormalisedProduct.backward gives: dX = (G less its column means) @ direct + X @ through_variance."""

    scale: Tensor
    direct: Tensor
    through_variance: Tensor
    weights: Tensor
