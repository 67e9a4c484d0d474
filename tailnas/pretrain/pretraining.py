"""The balanced super-network, trained on the source (IMB-NAS, 2210.00136; method: section 7).

As a mixture, alphas fixed at 0, for searches by gradient; then, for ranking sub-networks, one random path per step.
Paths start from the mixture's weights (a reading): from random ones they learn nothing in the time that it needs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches, sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.imbalance.samplers import make_sampler
from tailnas.pretrain.settings import SinglePath
from tailnas.space.device import autocast
from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.path_costs import path_costs
from tailnas.space.pretrained import supernet
from tailnas.space.random_genotype import random_genotype
from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop, require_finite
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

    Returns the super-network and one row per epoch, with the balanced accuracy on the source's `held_out` images and
    what guessing reaches there.
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
        logits = torch.cat([network(images) for images, _ in held])
        require_finite(settings, loop.section, float(logits.abs().max()), what="a prediction")
        return balanced_accuracy(held_out.labels, logits.argmax(1), network.num_classes)

    chance = guessing(len(held_out), num_classes)
    batches = _batches(settings, train, normalisation, num_classes, seed)
    history = fit(
        network,
        loss,
        batches,
        settings,
        loop,
        gradient_clip=settings.gradient_clip,
        measure=lambda: {"balanced_accuracy": measure(), "guessing": chance},
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
    chance = guessing(len(held_out), mixture.num_classes)
    training = settings.model_copy(update={"epochs": single_path.epochs, "learning_rate": single_path.learning_rate})
    check = partial(require_finite, training, loop.section, what="a prediction of a path")
    measure = _measure_paths(settings, network, train, held_out, normalisation, seed, check)
    history = fit(
        network,
        single_path_loss(network, path, F.cross_entropy, settings.precision),
        _batches(settings, train, normalisation, network.num_classes, seed, "single path"),
        training,
        loop,
        gradient_clip=settings.gradient_clip,
        parts={"path": GeneratorState(path)},
        measure=lambda: {"balanced_accuracy": measure(), "guessing": chance},
    )
    return network, history


def guessing(images: int, classes: int) -> float:
    """The accuracy on `images` that guessing among `classes` exceeds in 5 % of cases: 1/K and the luck on top."""
    return float(stats.binom.ppf(0.95, images, 1 / classes)) / images


def at_chance(history: Sequence[Row]) -> str | None:
    """What to say of a super-network that knows no more than guessing does; None where it knows more."""
    known, chance = float(history[-1]["balanced_accuracy"]), float(history[-1]["guessing"])
    if known > chance:
        return None
    return (
        f"it knows {100 * known:.1f} % of the held-out images, no more than guessing reaches ({100 * chance:.1f} %): "
        "searches that start from it start from next to nothing; raise pretrain's epochs or learning rate"
    )


def pretraining_cost(
    settings: NetworkTraining,
    single_path: SinglePath | None,
    space: Space,
    mixture: SuperNet,
    train: DeviceImages,
    seed: int,
) -> dict[str, int | None]:
    """Multiply-adds of the forward passes of training until the `mixture`, and until the `single` paths, or None.

    The paths start from the mixture, so that its cost is in theirs.
    """
    batches = _batches(settings, train, Normalisation.of(train.images), mixture.num_classes, seed)
    shape = train.images.shape
    images = batches.steps_per_epoch * batches.batch_size
    cost = settings.epochs * images * multiply_adds(mixture, shape[1], shape[-1])
    if single_path is None:
        return {"mixture": cost, "single": None}
    again, of_path = (
        torch_generator(seed, "pretrain", "path"),
        path_costs(space, mixture.num_classes, shape[1], shape[-1]),
    )
    steps = single_path.epochs * batches.steps_per_epoch
    paths = sum(of_path(random_genotype(again)) for _ in range(steps))
    return {"mixture": cost, "single": cost + batches.batch_size * paths}


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
    check: Callable[[float], None],
) -> Callable[[], float]:
    generator = torch_generator(seed, "pretrain", "measured paths")
    measured = [random_genotype(generator) for _ in range(MEASURED_PATHS)]
    sampler = make_sampler("instance", train.labels.cpu(), network.num_classes, generator)
    batches = Batches(train, sampler, settings.batch_size, normalisation, None, generator)
    statistics = statistics_images(batches, STATISTICS_BATCHES)

    def measure() -> float:
        size = 2 * settings.batch_size
        scores = [path_accuracy(network, path, statistics, held_out, normalisation, size, check) for path in measured]
        return sum(scores) / len(scores)

    return measure
