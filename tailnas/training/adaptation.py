"""Head adaptation on a frozen backbone, whose features are computed once (method: section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tailnas.data.batches import sequential_batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.imbalance.adaptation import backbone_features
from tailnas.seeding import seed_for
from tailnas.space.network import Network
from tailnas.training.heads import head_method
from tailnas.training.heads.task import Chooser, HeadResult, HeadTask
from tailnas.training.loop import Loop
from tailnas.training.retraining import retrain

if TYPE_CHECKING:
    from torch import Tensor

    from tailnas.params import Adapt, Retrain


def adapt(
    settings: Adapt, network: Network, data: DeviceImages, seed: int, loop: Loop, chooser: Chooser | None = None
) -> HeadResult:
    """Adapt `network.classifier` in place on the images that it was retrained on.

    The backbone is in eval mode, so no tensor of it changes, BatchNorm statistics included. chooser: for methods that
    have something to choose.
    """
    features, labels = _features(network, data, settings.batch_size)
    task = HeadTask(settings, network.classifier, features, labels, seed, loop, chooser)
    return head_method(settings.method)(task)


def halves_chooser(
    settings: Adapt,
    retraining: Retrain,
    network: Network,
    weights: DeviceImages,
    architecture: DeviceImages,
    seed: int,
    loop: Loop,
) -> Chooser:
    """To choose on the architecture half, with a network of the same genotype retrained on the weight half alone."""

    def train() -> tuple[Tensor, Tensor, Tensor]:
        normalisation = Normalisation.of(weights.images)
        own_seed = seed_for(seed, "adapt", "weight half")
        half, _ = retrain(retraining, network.genotype, weights, normalisation, network.num_classes, own_seed, loop)
        half.normalisation = normalisation.mean, normalisation.std
        return half.classifier.weight.detach(), *_features(half, architecture, settings.batch_size)

    counts = torch.bincount(architecture.labels.cpu(), minlength=network.num_classes)
    return Chooser(int(counts.min()), train)


def _features(network: Network, data: DeviceImages, batch_size: int) -> tuple[Tensor, Tensor]:
    network.eval()
    normalisation = Normalisation(*network.normalisation)
    return backbone_features(network, sequential_batches(data, 2 * batch_size, normalisation))
