"""What a contrast of two views is; the files beside this one have those there are."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Contrast(nn.Module):
    """A loss of two views' unit features, (N, P) each, with labels (N,). `classifier`: that which is trained beside."""

    def start_epoch(self) -> None:
        """Called before each epoch."""

    @abstractmethod
    def forward(self, views: tuple[Tensor, Tensor], labels: Tensor, classifier: nn.Linear) -> Tensor:
        """The scalar loss."""


def projector(features: int, hidden: int, projection: int) -> nn.Sequential:
    """A linear layer, BatchNorm, ReLU and another linear layer. It is needed in training alone."""
    normalised = nn.BatchNorm1d(hidden, track_running_stats=False)
    return nn.Sequential(nn.Linear(features, hidden), normalised, nn.ReLU(inplace=True), nn.Linear(hidden, projection))
