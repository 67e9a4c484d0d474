"""The balanced super-network, trained on the source (IMB-NAS, 2210.00136; method: section 7).

As a mixture, alphas fixed at 0, for searches by gradient; then, for ranking sub-networks, one random path per step.
Paths start from the mixture's weights (a reading): from random ones they learn nothing in the time that it needs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches, sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.imbalance.samplers import make_sampler
from tailnas.pretrain.settings import SinglePath
from tailnas.space.device import autocast
from tailnas.space.pretrained import supernet
from tailnas.space.random_genotype import random_genotype
from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop
from tailnas.training.settings import NetworkTraining
from tailnas.training.single_path import path_accuracy, single_path_loss, statistics_images
from tailnas.training.supervised import GeneratorState, fit

MEASURED_PATHS = 4
"""Random paths whose mean accuracy is recorded after each epoch of single-path training."""
STATISTICS_BATCHES = 5
"""Batches for the BatchNorm statistics of a measured path (method: section 7)."""


def pretrain(
    settings: NetworkTraining,
    space: Space,
    train: DeviceImages,
    held_out: DeviceImages,
    num_classes: int,
    seed: int,
    loop: Loop,
) -> tuple[SuperNet, list[Row]]:
    """Train the mixture on `train` for `settings.epochs` epochs.

    Returns the super-network and one row per epoch, with the balanced accuracy on the source's `held_out` images.
    """
    normalisation = Normalisation.of(train.images)
    with seeded_initialisation(seed_for(seed, "pretrain", "network")):
        network = supernet(space, num_classes, train.images.shape[1]).to(train.device)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(images.device, settings.precision):
            logits = network(images)
        return F.cross_entropy(logits.float(), labels), logits

    @torch.no_grad()
    def measure() -> float:
        network.eval()
        held = sequential_batches(held_out, 2 * settings.batch_size, normalisation)
        predictions = torch.cat([network(images).argmax(1) for images, _ in held])
        return balanced_accuracy(held_out.labels, predictions, network.num_classes)

    batches = _batches(settings, train, normalisation, num_classes, seed)
    history = fit(
        network,
        loss,
        batches,
        settings,
        loop,
        gradient_clip=settings.gradient_clip,
        measure=lambda: {"balanced_accuracy": measure()},
    )
    return network, history


def train_paths(
    settings: NetworkTraining,
    single_path: SinglePath,
    mixture: SuperNet,
    train: DeviceImages,
    held_out: DeviceImages,
    seed: int,
    loop: Loop,
) -> tuple[SuperNet, list[Row]]:
    """Train a copy of `mixture` for `single_path.epochs` epochs, one uniformly drawn path per step.

    The schedule starts with `single_path.learning_rate`; all else is as `settings` say. Returns the super-network
    and one row per epoch, with the balanced accuracy on the source's `held_out` images, the mean over MEASURED_PATHS
    random paths.
    """
    network = copy.deepcopy(mixture)
    normalisation = Normalisation.of(train.images)
    path = torch_generator(seed, "pretrain", "path")
    measure = _measure_paths(settings, network, train, held_out, normalisation, seed)
    history = fit(
        network,
        single_path_loss(network, path, F.cross_entropy, settings.precision),
        _batches(settings, train, normalisation, network.num_classes, seed, "single path"),
        settings.model_copy(update={"epochs": single_path.epochs, "learning_rate": single_path.learning_rate}),
        loop,
        gradient_clip=settings.gradient_clip,
        parts={"path": GeneratorState(path)},
        measure=lambda: {"balanced_accuracy": measure()},
    )
    return network, history


def _batches(
    settings: NetworkTraining,
    train: DeviceImages,
    normalisation: Normalisation,
    num_classes: int,
    seed: int,
    *phase: str,
) -> Batches:
    return Batches(
        train,
        make_sampler("instance", train.labels.cpu(), num_classes, torch_generator(seed, "pretrain", *phase, "sampler")),
        settings.batch_size,
        normalisation,
        Augmentation(settings.crop_padding, settings.flip),
        torch_generator(seed, "pretrain", *phase, "augmentation"),
    )


def _measure_paths(
    settings: NetworkTraining,
    network: SuperNet,
    train: DeviceImages,
    held_out: DeviceImages,
    normalisation: Normalisation,
    seed: int,
) -> Callable[[], float]:
    generator = torch_generator(seed, "pretrain", "measured paths")
    measured = [random_genotype(generator) for _ in range(MEASURED_PATHS)]
    sampler = make_sampler("instance", train.labels.cpu(), network.num_classes, generator)
    batches = Batches(train, sampler, settings.batch_size, normalisation, None, generator)
    statistics = statistics_images(batches, STATISTICS_BATCHES)

    def measure() -> float:
        size = 2 * settings.batch_size
        scores = [path_accuracy(network, path, statistics, held_out, normalisation, size) for path in measured]
        return sum(scores) / len(scores)

    return measure
