"""Head adaptation on a frozen backbone: features once, then batches of features (method: section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from tailnas.batches.batches import last_batch, whole_pass
from tailnas.imbalance.samplers import Sampler


class FeatureNetwork(Protocol):
    def features(self, images: Tensor) -> Tensor: ...


@torch.no_grad()
def backbone_features(network: FeatureNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Features (N, D) and labels (N,) of all `batches`. The network must be in eval mode; nothing in it changes."""
    pairs = [(network.features(images), labels) for images, labels in batches]
    return torch.cat([features for features, _ in pairs]), torch.cat([labels for _, labels in pairs])


class FeatureBatches:
    """Batches of precomputed features (N, D) with labels (N,), as the sampler chooses them.

    keep_last: whether those that fill no batch at the end of a pass, two at least, make a smaller one.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, sampler: Sampler, batch_size: int, *, keep_last: bool = False
    ) -> None:
        self.features, self.labels, self.sampler = features, labels, sampler
        self.batch_size = min(batch_size, sampler.images_per_epoch)
        self.last_size = last_batch(sampler.images_per_epoch, self.batch_size) if keep_last else 0

    @property
    def steps_per_epoch(self) -> int:
        return self.sampler.images_per_epoch // self.batch_size + (self.last_size > 0)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.last_size:
            rows, last = whole_pass(self.sampler, self.batch_size, self.last_size)
        else:
            rows = self.sampler.epoch(self.steps_per_epoch, self.batch_size)
            last = rows[:0]
        device = self.features.device
        return ((self.features[step], self.labels[step]) for step in (*rows.to(device), *last.to(device)))

    def state_dict(self) -> dict[str, Tensor]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.sampler.load_state_dict(state)
