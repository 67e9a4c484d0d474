"""The derived network, trained from random weights on both halves of the long-tailed data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches, sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.batches.stored_images import StoredImages
from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.samplers import Sampler, frequencies, make_sampler
from tailnas.retrain.augmented import AugmentedBatches
from tailnas.retrain.branches import Branches, OneBranch, Source, TwoBranches
from tailnas.retrain.contrastive_views import ContrastiveViews
from tailnas.retrain.cutout import Cutout
from tailnas.retrain.image_mixing import IMAGE_MIXINGS
from tailnas.retrain.initialisation import initialise
from tailnas.retrain.loss import make_loss
from tailnas.retrain.mixture_consistency import MixtureViews
from tailnas.retrain.reweighting import ReweightedLoss
from tailnas.retrain.settings import Retrain
from tailnas.retrain.width import fitted_channels
from tailnas.space.frozen import FrozenCell
from tailnas.space.network import Network
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop, require_finite, scales
from tailnas.training.supervised import GeneratorState, TrainingBatches, fit

BRANCHES: dict[str, Callable[[Retrain, Network, ReweightedLoss, Source, int], Branches]] = {
    "one": OneBranch,
    "two": TwoBranches,
    "glmc": MixtureViews,
    "bcl": ContrastiveViews,
    "proco": ContrastiveViews,
}


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
    With two branches there is a class head beside it. Reductions are placed by the depth L + 1, as DARTS has them.

    The same recipe for every genotype; the last epoch counts, nothing is selected. Class priors and weights are those
    of `data`. Drop-path grows linearly from 0 to `network.drop_path` (DARTS, 1806.09055, section A.1). Returns the
    network, whose classifier is a plain linear one whatever the loss was, and one row per epoch. The network knows its
    data and the class frequencies that its probabilities assume, but not the names of the classes.
    """
    build = network_builder(settings, genotype, num_classes, data.images.shape[1])
    channels: int | Sequence[int] | None = settings.network.channels
    if channels is None and genotype.pretrained is not None:
        channels = 1  # of no effect: the network is as large as it is
    if channels is None:
        assert settings.network.parameters is not None
        channels = fitted_channels(lambda width: build(width, False), settings.network.parameters)
    with seeded_initialisation(seed_for(seed, "retrain", "network")):
        network = build(channels, settings.network.auxiliary_weight > 0)
        initialise(network, settings.network.initialisation)
    network.to(data.device)
    for cell in network.cells:
        if isinstance(cell, FrozenCell):
            cell.load_weights()
    network.drop_path_generator = torch_generator(seed, "retrain", "drop path")

    counts = torch.bincount(data.labels.cpu(), minlength=num_classes)
    family = make_loss(settings.loss, counts, data.device)
    reweighted = ReweightedLoss(family, settings.reweighting)
    network.feature_norm = family.feature_norm
    network.classifier = family.training_classifier(network.classifier)

    def source(branch: str, sampler: str | float, view: str = "") -> tuple[TrainingBatches, Sampler]:
        purpose = ("retrain", *filter(None, [branch]))
        drawing = make_sampler(sampler, data.labels.cpu(), num_classes, torch_generator(seed, *purpose, "sampler"))
        purpose += tuple(filter(None, [view]))
        return augmented_batches(settings, data, normalisation, drawing, seed, *purpose), drawing

    branches: Branches = BRANCHES[settings.branches.name](settings, network, reweighted, source, seed)

    epochs = settings.training.epochs

    def start_epoch(epoch: int) -> None:
        network.drop_path = settings.network.drop_path * epoch / epochs
        branches.set_epoch(epoch, epochs)
        reweighted.set_epoch(epoch, epochs)

    at_fault = scales(settings.loss.settings, "retrain.loss") | scales(settings.branches, "retrain.branches")
    if settings.network.auxiliary_weight:
        at_fault["retrain.network.auxiliary_weight"] = settings.network.auxiliary_weight
    history = fit(
        branches.module,
        branches.loss,
        branches.batches,
        settings.training,
        loop,
        gradient_clip=settings.training.gradient_clip,
        undecayed=family.undecayed(network.classifier),
        parts={"drop_path": GeneratorState(network.drop_path_generator)},
        start_epoch=start_epoch,
        scales=at_fault,
    )
    network.classifier = family.trained_classifier(network.classifier)
    network.normalisation, network.image_size = (normalisation.mean, normalisation.std), data.images.shape[-1]
    network.class_counts = tuple(counts.tolist())
    network.prior = frequencies(branches.assumed_prior(counts))
    with torch.no_grad():
        images, _ = next(sequential_batches(data, settings.training.batch_size, normalisation))
        largest = float(network.eval()(images).abs().max())
    require_finite(settings.training, loop.section, largest, network, what="a prediction", scales=at_fault)
    return network, history


def input_normalisation(genotype: Genotype, images: Tensor | StoredImages) -> Normalisation:
    """Of the network's inputs: that of `images` (N, C, H, W); a frozen network normalises pixel values from 0 to 1."""
    if genotype.pretrained is None:
        return Normalisation.of(images)
    channels = images.shape[1]
    return Normalisation((0.0,) * channels, (1.0,) * channels)


def network_builder(
    settings: Retrain, genotype: Genotype, num_classes: int, in_channels: int
) -> Callable[[int | Sequence[int], bool], Network]:
    """What makes the network of `genotype` from its channels and whether it has an auxiliary head."""

    def build(channels: int | Sequence[int], auxiliary: bool) -> Network:
        return Network(
            genotype,
            channels,
            settings.network.cells + 1,
            num_classes,
            auxiliary=auxiliary,
            in_channels=in_channels,
            branches=2 if settings.branches.name == "two" else 1,
            pool_norm=settings.network.pool_norm,
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
    training, further = settings.training, settings.augmentation
    batches = Batches(
        data,
        sampler,
        training.batch_size,
        normalisation,
        Augmentation(training.crop_padding, training.flip),
        torch_generator(seed, *purpose, "augmentation"),
        keep_last=training.last_batch == "keep",
    )
    if further.rand_augment is None and not further.cutout and further.image_mixing is None:
        return batches
    rand_augment = None
    if further.rand_augment is not None:
        from tailnas.retrain.rand_augment import RandAugment  # loads torchvision

        rand_augment = RandAugment(further.rand_augment.operations, further.rand_augment.magnitude)
    mixing = further.image_mixing
    return AugmentedBatches(
        batches,
        {
            kind: torch_generator(seed, *purpose, "augmentation", kind)
            for kind in ("rand_augment", "cutout", "image_mixing")
        },
        rand_augment=rand_augment,
        cutout=Cutout(further.cutout) if further.cutout else None,
        image_mixing=None if mixing is None else IMAGE_MIXINGS[mixing.name](mixing.alpha),
    )
