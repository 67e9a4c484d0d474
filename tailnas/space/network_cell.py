"""What a network is stacked from, whatever it looks like inside."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class NetworkCell(nn.Module, ABC):
    """Maps the outputs of the two cells before it to its own, (N, C, H, W) or half the side."""

    @abstractmethod
    def droppable(self) -> int:
        """Number of operations that drop-path may drop: all but identities."""

    @abstractmethod
    def forward(self, older: Tensor, newer: Tensor, path_scales: list[Tensor]) -> Tensor:
        """`path_scales`: one (N, 1, 1, 1) factor for each droppable operation, or none at all."""
