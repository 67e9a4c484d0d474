"""Single-path training: every step draws one path of the super-network and trains it alone (method: section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tailnas.batches.batches import Batches, sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.space.device import autocast
from tailnas.space.path import path_logits, path_statistics
from tailnas.space.random_genotype import random_genotype
from tailnas.space.supernet import SuperNet
from tailnas.training.supervised import Loss


def single_path_loss(
    network: SuperNet, generator: torch.Generator, criterion: Callable[[Tensor, Tensor], Tensor], precision: str
) -> Loss:
    """`criterion(logits, labels)` of one path, drawn uniformly from `generator` (CPU) at each call."""

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(images.device, precision):
            logits = path_logits(network, random_genotype(generator), images)
        return criterion(logits.float(), labels), logits

    return loss


@torch.no_grad()
def statistics_images(batches: Batches, count: int) -> list[Tensor]:
    """The first `count` batches of images, at most one pass: for BatchNorm statistics."""
    steps = min(count, batches.steps_per_epoch)
    return [images for images, _ in batches.epoch(steps)] if steps else []


@torch.no_grad()
def path_accuracy(
    network: SuperNet,
    genotype: Genotype,
    statistics: Sequence[Tensor],
    data: DeviceImages,
    normalisation: Normalisation,
    batch_size: int,
    check: Callable[[float], None] = lambda largest: None,
) -> float:
    """Balanced accuracy of one path on `data`, with BatchNorm statistics estimated anew on the images `statistics`.

    check: called with the largest absolute logit.
    """
    with path_statistics(network, genotype, statistics):
        batches = sequential_batches(data, batch_size, normalisation)
        logits = torch.cat([path_logits(network, genotype, images) for images, _ in batches])
    check(float(logits.abs().max()))
    return balanced_accuracy(data.labels, logits.argmax(1), network.num_classes)
