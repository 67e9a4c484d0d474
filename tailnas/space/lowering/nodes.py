"""The four intermediate nodes of a cell, summed up from what arrives."""

import torch
from torch import Tensor

from tailnas.space.lowering.layout import maps


class Nodes:
    """Sums as rows (N * H * W, C)."""

    def __init__(self, count: int, like: Tensor) -> None:
        """`like`: (N, C, H, W) as the nodes will be."""
        self.like = like
        self.sums: list[Tensor | None] = [None] * count

    def total(self, node: int) -> Tensor:
        total = self.sums[node]
        assert total is not None
        return total

    def add(self, node: int, part: Tensor) -> None:
        """Add rows, which are copied."""
        total = self.sums[node]
        self.sums[node] = part.clone(memory_format=torch.contiguous_format) if total is None else total.add_(part)

    def add_product(self, node: int, matrix: Tensor, weights: Tensor) -> None:
        """Add matrix @ weights^T."""
        total = self.sums[node]
        self.sums[node] = matrix @ weights.t() if total is None else total.addmm_(matrix, weights.t())

    def state(self, node: int) -> Tensor:
        return maps(self.total(node), self.like)
