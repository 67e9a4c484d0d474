"""BatchNorm by the batch on rows (N * H * W, C): by itself, or folded into the matrix product in front of it.

What folding buys: norm(X @ W^T) = X @ V^T, with V from the covariance of X. A 1x1 convolution, its BatchNorm and the
mixture weight on top become one matrix product forward and two backward; the output of the convolution, its normalised
form and their gradients never exist in memory. On a CPU that halves the passes over the maps. The price is the second
moments of X, one matrix product more. Its accuracy: the columns of X must be centred beforehand, so that no small
variance is the difference of two large moments; float32 sums of at most 4096 rows are added in float64. Alpha gradients
are as near to float64 as the plain network's (C8 L5, 32x32, five seeds: 6e-7 to 6e-3 against 5e-7 to 6e-3, the large
ones flipped ReLUs).

What taking the moments over parts of the rows buys: torch's one-pass kernel reads a map once where a mean and then a
variance read it three times. It adds row after row in float32, so that of 8192 rows the variance is off by 4e-6; taken
over parts of 512 rows it is off by 2e-7, in the same time.

What a BatchNorm of its own buys where nothing is folded: accuracy. torch's BatchNorm of channels-last maps has a
relative error of 7e-6 in the variance of [32, 16, 32, 32] (1e-7 channels-first), enough to flip ReLUs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tailnas.space.backends.description import BatchStatistics

PARTS_OF_MOMENTS = 16
ROWS_PER_PRODUCT = 4096
LEAST_PARTS_OF_A_PRODUCT = 2
"""At least as many as there are threads, since one product of two flat matrices runs on one thread."""


def batch_norm(rows: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """`norm` of rows (N * H * W, C) by their own statistics, running statistics updated; differentiable."""
    result, mean, variance = Normalise.apply(rows, norm.eps)
    statistics = BatchStatistics()
    statistics.add([norm], [mean], [variance])
    statistics.update_running(len(rows))
    return torch.addcmul(norm.bias, result, norm.weight) if norm.affine else result


class Normalise(torch.autograd.Function):
    """(rows, C) to the same with mean 0 and variance 1 in every column; also mean and biased variance."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        result = Normalised.of(rows, eps)
        ctx.save_for_backward(result.values, result.inverse_std)
        ctx.mark_non_differentiable(result.mean, result.variance)
        return result.values, result.mean, result.variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        values, inverse_std = ctx.saved_tensors
        factor = inverse_std / -len(values)
        through_mean, through_variance = gradient.sum(0) * factor, (gradient * values).sum(0) * factor
        return torch.addcmul(through_mean, values, through_variance).addcmul_(gradient, inverse_std), None


@dataclass
class Normalised:
    """Values (rows, C) with mean 0 and variance 1 in every column, and what made them so, each (C,).

    The variance is biased.
    """

    values: Tensor
    mean: Tensor
    variance: Tensor
    inverse_std: Tensor

    @staticmethod
    def of(rows: Tensor, eps: float, out: Tensor | None = None) -> "Normalised":
        """out: where the values go; may be `rows`."""
        mean, variance = moments(rows)
        inverse_std = (variance + eps).rsqrt()
        return Normalised(torch.addcmul(-mean * inverse_std, rows, inverse_std, out=out), mean, variance, inverse_std)

    def projection(self, gradient: Tensor, scratch: Tensor) -> Tensor:
        """Inner products of an output gradient with the values, column by column, (C,). `scratch` is overwritten."""
        return torch.mul(gradient, self.values, out=scratch).sum(0)

    def unscaled_input_gradient(self, centred: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """From an output gradient with centred columns that of the input, in `scratch` and still to be multiplied by
        `inverse_std`, and the projection.
        """
        projection = self.projection(centred, scratch)
        return torch.addcmul(centred, self.values, projection / -len(centred), out=scratch), projection


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each column, from those of parts of the rows.

    A part is every 16th row, so that rows that follow each other are a view with more columns.
    """
    count, columns = rows.shape
    parts = gcd(count, PARTS_OF_MOMENTS)
    means, variances = torch.batch_norm_update_stats(rows.reshape(-1, parts * columns), None, None, 0.0)
    means, variances = means.view(parts, columns).double(), variances.view(parts, columns).double()
    mean = means.mean(0)
    return mean.to(rows.dtype), (variances + (means - mean).square()).mean(0).to(rows.dtype)


@dataclass
class FoldedBatchNorm:
    """n times norm(X @ W^T) without affine weights, X being n inputs (rows, K) with centred columns and W (n, C, K).

    mean, variance (n, C): BatchNorm's batch statistics (biased).
    """

    weights: Tensor
    mean: Tensor
    variance: Tensor
    inverse_std: Tensor
    weights_by_covariance: Tensor
    """W times the covariance (n, C, K)."""

    @staticmethod
    def of(weights: Tensor, removed_means: Tensor, covariance: Tensor, eps: float) -> "FoldedBatchNorm":
        """`removed_means` (n, K): what was taken from the columns of X; covariance (n, K, K)."""
        product = torch.bmm(weights, covariance)
        variance = (product * weights).sum(2).clamp_(min=0)
        mean = torch.bmm(weights, removed_means.unsqueeze(2)).squeeze(2)
        return FoldedBatchNorm(weights, mean, variance, (variance + eps).rsqrt(), product)

    def folded_weights(self, scale: Tensor | None) -> Tensor:
        """V (n, C, K) with scale * norm(X @ W^T) = X @ V^T. `scale`: (n,), None for ones."""
        return self._factor(scale).unsqueeze(2) * self.weights

    def backward(self, scale: Tensor | None, cross: Tensor, rows: int) -> "FoldedGradients":
        """From cross = G^T @ X (n, C, K) for an output gradient G of so many rows."""
        projection = self.inverse_std * (self.weights * cross).sum(2)
        factor = self._factor(scale)
        direct = factor.unsqueeze(2) * self.weights
        damping = (factor * self.inverse_std * projection / -rows).unsqueeze(2)
        through_variance = torch.bmm(self.weights.transpose(1, 2), damping * self.weights)
        weights = factor.unsqueeze(2) * (
            cross - (self.inverse_std * projection).unsqueeze(2) * self.weights_by_covariance
        )
        return FoldedGradients(projection.sum(1), direct, through_variance, weights)

    def _factor(self, scale: Tensor | None) -> Tensor:
        return self.inverse_std if scale is None else scale.unsqueeze(1) * self.inverse_std


@dataclass
class FoldedGradients:
    """Gradients of scale (n,) and weights (n, C, K); `direct`, `through_variance` make those of the inputs."""

    scale: Tensor
    direct: Tensor
    through_variance: Tensor
    weights: Tensor

    def of_inputs(self, centred: list[Tensor], inputs: list[Tensor]) -> Iterator[Tensor]:
        """dX = G @ direct + X @ through_variance of one input after the other, from G less its column means."""
        for gradient, rows, direct, through_variance in zip(
            centred, inputs, self.direct, self.through_variance, strict=True
        ):
            yield torch.mm(gradient, direct).addmm_(rows, through_variance)


def covariances(centred: Iterable[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Of matrices with centred columns, which are also returned: (n, K, K). Each is read while it is in the cache."""
    kept, squares = [], []
    for rows in centred:
        kept.append(rows)
        squares.append(product_in_parts(rows, rows))
    return kept, summed_products(squares) / len(kept[0])


def product_in_parts(left: Tensor, right: Tensor) -> Tensor:
    """left^T @ right as (parts, K, K'), one for each part of the rows, to be added up by `summed_products`."""
    rows = len(left)
    parts = max(LEAST_PARTS_OF_A_PRODUCT, rows // ROWS_PER_PRODUCT)
    if rows % parts:
        return (left.t() @ right).unsqueeze(0)
    lefts, rights = left.view(parts, rows // parts, -1), right.view(parts, rows // parts, -1)
    return torch.bmm(lefts.transpose(1, 2), rights)


def summed_products(products: list[Tensor]) -> Tensor:
    """The n products (n, K, K') whose parts are given, added in float64."""
    return torch.stack(products).sum(1, dtype=torch.float64).to(products[0].dtype)
