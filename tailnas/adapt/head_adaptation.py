"""Head adaptation on a frozen backbone, whose features are computed once (method: section 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tailnas.adapt.features import backbone_features
from tailnas.adapt.head_task import Chooser, HeadResult, HeadTask
from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.seeding import seed_for
from tailnas.imbalance.samplers import frequencies
from tailnas.retrain.retraining import input_normalisation, retrain
from tailnas.retrain.settings import Retrain
from tailnas.space.network import Network
from tailnas.training.loop import Loop, require_finite
from tailnas.training.settings import Training

FEATURE_BATCH = 128
"""Images per forward pass of the frozen backbone."""


def adapt(
    chosen: Chosen, network: Network, data: DeviceImages, seed: int, loop: Loop, chooser: Chooser | None = None
) -> HeadResult:
    """Adapt `network.classifier` in place on the images that it was retrained on.

    The backbone is in eval mode, so no tensor of it changes, BatchNorm statistics included, unless the method has a
    `prepare` that changes them before. `network.prior` becomes what the new head's probabilities assume. chosen: a file
    of tailnas/heads with its settings. chooser: for methods that have something to choose.
    """
    if prepare := getattr(chosen.module, "prepare", None):
        prepare(network, data, seed, chosen.settings)
    features, labels = _features(network, data)
    task = HeadTask(network.classifier, features, labels, seed, loop, chooser)
    result: HeadResult = chosen.module.adapt_head(task, chosen.settings)
    if getattr(chosen.module, "HEAD", "") != "kept":
        assumed = getattr(chosen.module, "assumed_prior", None)
        network.prior = frequencies(assumed(task.counts, chosen.settings) if assumed else torch.ones(len(task.counts)))
    with torch.no_grad():
        largest = float(network.classifier(features[:FEATURE_BATCH]).abs().max())
    training: Training | None = getattr(chosen.settings, "training", None)
    if training is not None:
        require_finite(training, loop.section, largest, network, what="a prediction")
    elif not math.isfinite(largest):
        raise UserError(
            f"adapt.method: {chosen.name!r}: a prediction became {largest}; allowed: a retrained network whose "
            "predictions are finite (see retrain.training)"
        )
    return result


def halves_chooser(
    retraining: Retrain,
    network: Network,
    weight_half: DeviceImages,
    architecture_half: DeviceImages,
    seed: int,
    loop: Loop,
) -> Chooser:
    """To choose on the architecture half, with a network of the same genotype retrained on the weight half alone."""

    def train() -> tuple[Tensor, Tensor, Tensor]:
        normalisation = input_normalisation(network.genotype, weight_half.images)
        own_seed = seed_for(seed, "adapt", "weight half")
        half, _ = retrain(retraining, network.genotype, weight_half, normalisation, network.num_classes, own_seed, loop)
        return half.classifier.weight.detach(), *_features(half, architecture_half)

    counts = torch.bincount(architecture_half.labels.cpu(), minlength=network.num_classes)
    return Chooser(int(counts.min()), train)


def _features(network: Network, data: DeviceImages) -> tuple[Tensor, Tensor]:
    network.eval()
    normalisation = Normalisation(*network.normalisation)
    return backbone_features(network, sequential_batches(data, FEATURE_BATCH, normalisation))
