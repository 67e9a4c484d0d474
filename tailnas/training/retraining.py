"""The derived network, trained from random weights on both halves of the long-tailed data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from tailnas.data.augmentation import Augmentation
from tailnas.data.augmented import AugmentedBatches
from tailnas.data.batches import Batches
from tailnas.data.cutout import Cutout
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.data.image_mixing import IMAGE_MIXINGS
from tailnas.imbalance.losses import make_loss
from tailnas.imbalance.losses.reweighting import ReweightedLoss
from tailnas.imbalance.samplers import Sampler, make_sampler
from tailnas.seeding import seed_for, torch_generator
from tailnas.space.genotype import Genotype
from tailnas.space.network import Network
from tailnas.space.supernet import default_reductions, seeded_initialisation
from tailnas.space.width import fitted_channels
from tailnas.training.branches import BRANCHES, Branches
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop
from tailnas.training.supervised import GeneratorState, TrainingBatches, fit

if TYPE_CHECKING:
    from tailnas.params import Retrain


def retrain(
    settings: Retrain,
    genotype: Genotype,
    data: DeviceImages,
    normalisation: Normalisation,
    num_classes: int,
    seed: int,
    loop: Loop,
) -> tuple[Network, list[Row]]:
    """Train the network of `genotype`: L cells and one more, which is the instance head where the genotype has one.
    With two branches there is a class head beside it.

    The same recipe for every genotype; the last epoch counts, nothing is selected. Class priors and weights are those
    of `data`. Drop-path grows linearly from 0 to `settings.drop_path` (DARTS, 1806.09055, section A.1). Returns the
    network, whose classifier is a plain linear one whatever the loss was, and one row an epoch.
    """
    build = network_builder(settings, genotype, num_classes, data.images.shape[1])
    channels: int | Sequence[int] | None = settings.channels
    if channels is None:
        assert settings.parameters is not None
        channels = fitted_channels(lambda width: build(width, False), settings.parameters)
    with seeded_initialisation(seed_for(seed, "retrain", "network")):
        network = build(channels, settings.auxiliary_weight > 0).to(data.device)
    network.drop_path_generator = torch_generator(seed, "retrain", "drop path")

    counts = torch.bincount(data.labels.cpu(), minlength=num_classes)
    family = make_loss(settings.loss, settings, counts, data.device)
    reweighted = ReweightedLoss(family, settings.beta, settings.drw)
    network.feature_norm = family.feature_norm
    network.classifier = family.training_classifier(network.classifier)

    def source(branch: str, sampler: str) -> tuple[TrainingBatches, Sampler]:
        purpose = ("retrain", *([branch] if branch else []))
        drawing = make_sampler(sampler, data.labels.cpu(), num_classes, torch_generator(seed, *purpose, "sampler"))
        return augmented_batches(settings, data, normalisation, drawing, seed, *purpose), drawing

    branches: Branches = BRANCHES[settings.branches](settings, network, reweighted, source)

    def start_epoch(epoch: int) -> None:
        network.drop_path = settings.drop_path * epoch / settings.epochs
        branches.set_epoch(epoch, settings.epochs)
        reweighted.set_epoch(epoch, settings.epochs)

    history = fit(
        network,
        branches.loss,
        branches.batches,
        settings,
        loop,
        gradient_clip=settings.gradient_clip,
        parts={"drop_path": GeneratorState(network.drop_path_generator)},
        start_epoch=start_epoch,
    )
    network.classifier = family.trained_classifier(network.classifier)
    return network, history


def network_builder(
    settings: Retrain, genotype: Genotype, num_classes: int, in_channels: int
) -> Callable[[int | Sequence[int], bool], Network]:
    """What makes the network of `genotype` from its channels and whether it has an auxiliary head."""

    def build(channels: int | Sequence[int], auxiliary: bool) -> Network:
        return Network(
            genotype,
            channels,
            settings.cells + 1,
            num_classes,
            auxiliary=auxiliary,
            in_channels=in_channels,
            reductions=default_reductions(settings.cells),
            branches=2 if settings.branches == "two" else 1,
        )

    return build


def augmented_batches(
    settings: Retrain,
    data: DeviceImages,
    normalisation: Normalisation,
    sampler: Sampler,
    seed: int,
    *purpose: str,
) -> Batches | AugmentedBatches:
    """Batches with the augmentation of `settings`; `purpose` names the random streams."""
    batches = Batches(
        data,
        sampler,
        settings.batch_size,
        normalisation,
        Augmentation(settings.crop_padding, settings.flip),
        torch_generator(seed, *purpose, "augmentation"),
    )
    mixing = IMAGE_MIXINGS.get(settings.image_mixing)
    if not settings.rand_augment_operations and not settings.cutout and mixing is None:
        return batches
    rand_augment = None
    if settings.rand_augment_operations:
        from tailnas.data.rand_augment import RandAugment  # loads torchvision

        rand_augment = RandAugment(settings.rand_augment_operations, settings.rand_augment_magnitude)
    return AugmentedBatches(
        batches,
        {
            kind: torch_generator(seed, *purpose, "augmentation", kind)
            for kind in ("rand_augment", "cutout", "image_mixing")
        },
        rand_augment=rand_augment,
        cutout=Cutout(settings.cutout) if settings.cutout else None,
        image_mixing=mixing(settings.image_mixing_alpha) if mixing is not None else None,
    )
