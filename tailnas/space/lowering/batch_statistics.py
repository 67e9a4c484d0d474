"""Running statistics of many BatchNorms, moved in three operations instead of three each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BatchStatistics:
    """Means and biased variances of one batch, collected for the BatchNorms that they belong to."""

    def __init__(self) -> None:
        self.norms: list[nn.BatchNorm2d] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []

    def add(self, norms: Sequence[nn.BatchNorm2d], means: Sequence[Tensor], variances: Sequence[Tensor]) -> None:
        self.norms.extend(norms)
        self.means.extend(means)
        self.variances.extend(variances)

    @torch.no_grad()
    def update_running(self, rows: int) -> None:
        """As BatchNorm does after a batch of `rows` values a channel, unless the running statistics are frozen."""
        if not self.norms[0].track_running_stats:
            return
        momentum = self.norms[0].momentum
        assert momentum is not None
        running_means, running_variances, counts = [], [], []
        for norm in self.norms:
            assert norm.running_mean is not None and norm.running_var is not None
            assert norm.num_batches_tracked is not None
            running_means.append(norm.running_mean)
            running_variances.append(norm.running_var)
            counts.append(norm.num_batches_tracked)
        torch._foreach_lerp_(running_means, self.means, momentum)
        unbiased = torch._foreach_mul(self.variances, rows / (rows - 1))
        torch._foreach_lerp_(running_variances, list(unbiased), momentum)
        torch._foreach_add_(counts, 1)
