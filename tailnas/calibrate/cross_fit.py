"""What a recipe says about images that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tailnas.adapt.head_adaptation import adapt
from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages
from tailnas.data.split_file import HALVES, Half
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.seeding import seed_for
from tailnas.foundation.settings import Section
from tailnas.retrain.retraining import input_normalisation, retrain
from tailnas.retrain.settings import Retrain
from tailnas.space.network import Network
from tailnas.training.loop import Loop

BATCH = 256

Settings = TypeVar("Settings", bound=Section)


def cross_fitted_logits(
    retraining: Retrain,
    adapting: Chosen,
    network: Network,
    halves: Mapping[Half, DeviceImages],
    networks: int,
    seed: int,
    loop: Loop,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits (N, K) and labels (N,) of training images, each by a network that has not seen it.

    networks: 2, one trained on each half and asked about the other, weight half first; or 1, trained on the weight half
    and asked about the architecture half. They have `network`'s genotype and recipe, head adaptation included, and take
    as many steps as it did: with half of the steps they were surer of too little.
    """
    logits, labels = [], []
    for asked, trained in list(zip(HALVES, reversed(HALVES), strict=True))[-networks:]:
        data, own_seed = halves[trained], seed_for(seed, "calibrate", trained)
        normalisation = input_normalisation(network.genotype, data.images)
        half, _ = retrain(
            _twice(retraining),
            network.genotype,
            data,
            normalisation,
            network.num_classes,
            own_seed,
            loop.part(f"{trained} half", "retrain.training"),
        )
        head = replace(adapting, settings=_twice(adapting.settings))
        adapt(head, half, data, own_seed, loop.part(f"{trained} half head", "adapt.training"))
        half.eval()
        with torch.no_grad():
            batches = list(sequential_batches(halves[asked], BATCH, normalisation))
            logits += [half(images).double().cpu() for images, _ in batches]
            labels += [own.cpu() for _, own in batches]
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()


def _twice(settings: Settings) -> Settings:
    """The same with twice the epochs, where there is a training: half of the images make half of the steps."""
    training = getattr(settings, "training", None)
    if training is None:
        return settings
    return settings.model_copy(update={"training": training.model_copy(update={"epochs": 2 * training.epochs})})
