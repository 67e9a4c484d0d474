"""A classifier beside a contrast of features: what BCL (2207.09052) and ProCo (2403.06726) have in common.

Of each image one view is classified, with log n_c added to the scores, and two more are projected to unit vectors:

    CE(z + log n, y) + weight * contrast(h', h'', y)        h = projector(f) / |projector(f)|
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.foundation.seeding import seed_for
from tailnas.retrain.balanced_contrast import BalancedContrast
from tailnas.retrain.branches import Source
from tailnas.retrain.contrast import Contrast, projector
from tailnas.retrain.probabilistic_contrast import ProbabilisticContrast
from tailnas.retrain.reweighting import ReweightedLoss
from tailnas.retrain.settings import Contrastive, Retrain
from tailnas.space.device import autocast
from tailnas.space.network import Network
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.supervised import TrainingBatches

VIEWS = ("", "second view", "third view")
CONTRASTS: dict[str, Callable[[Contrastive, Tensor, int], Contrast]] = {
    "bcl": BalancedContrast,
    "proco": ProbabilisticContrast,
}


class ContrastiveHeads(nn.Module):
    """A network with what its training alone needs."""

    def __init__(self, network: Network, contrast: Contrast, projection: nn.Module) -> None:
        super().__init__()
        self.network, self.contrast, self.projector = network, contrast, projection

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) of the first view and projected features (2 N, P) of the others; images: all 3 N."""
        features = self.network.features(images)
        first = len(images) // len(VIEWS)
        return self.network.classifier(features[:first]), self.projector(features[first:])


class SameImages:
    """The views of each step side by side: `parts` draw the same images and augment them otherwise."""

    def __init__(self, parts: list[TrainingBatches]) -> None:
        self.parts = parts

    @property
    def steps_per_epoch(self) -> int:
        return self.parts[0].steps_per_epoch

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(images of all views one after the other, labels of one)."""
        for views in zip(*(part.epoch() for part in self.parts), strict=True):
            labels = views[0][1]
            assert isinstance(labels, Tensor)
            yield torch.cat([images for images, _ in views]), labels

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


class ContrastiveViews:
    """Cross-entropy of scores with log n_c added, and `weight` times the contrast of two more views."""

    def __init__(
        self, settings: Retrain, network: Network, reweighted: ReweightedLoss, source: Source, seed: int
    ) -> None:
        assert isinstance(settings.branches, Contrastive)
        chosen, counts, width = settings.branches, reweighted.loss.counts, network.classifier.in_features
        self.weight, self.precision = chosen.weight, settings.training.precision
        with seeded_initialisation(seed_for(seed, "retrain", "contrastive heads")):
            projection = projector(width, chosen.hidden, chosen.projection)
            heads = ContrastiveHeads(network, CONTRASTS[chosen.name](chosen, counts, width), projection)
        self.heads = heads.to(network.classifier.weight.device)
        self.log_counts = counts.log().to(network.classifier.weight)
        self.batches: TrainingBatches = SameImages([source("", "instance", view)[0] for view in VIEWS])

    @property
    def module(self) -> nn.Module:
        return self.heads

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.heads.contrast.start_epoch()

    def assumed_prior(self, counts: Tensor) -> Tensor:
        """Uniform: training adds log n_c to the scores, prediction does not."""
        return torch.ones_like(counts, dtype=torch.float64)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(images.device, self.precision):
            logits, projected = self.heads(images)
        exact = logits if logits.dtype == torch.float64 else logits.float()
        first, second = F.normalize(projected.to(exact), dim=1).chunk(2)
        contrast = self.heads.contrast((first, second), labels, self.heads.network.classifier)
        return F.cross_entropy(exact + self.log_counts, labels) + self.weight * contrast, logits
