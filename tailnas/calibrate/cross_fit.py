"""What a recipe says about images that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from tailnas.adapt.head_adaptation import adapt
from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.split_file import HALVES, Half
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.seeding import seed_for
from tailnas.retrain.retraining import retrain
from tailnas.retrain.settings import Retrain
from tailnas.space.network import Network
from tailnas.training.loop import Loop

BATCH = 256


def cross_fitted_logits(
    retraining: Retrain, adapting: Chosen, network: Network, halves: Mapping[Half, DeviceImages], seed: int, loop: Loop
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits (N, K) and labels (N,) of all training images, weight half first, each by a network of the other half.

    Each half trains a network of `network`'s genotype by the same recipe, head adaptation included, so that no image is
    judged by a network that has seen it. The networks saw half of the images that `network` saw.
    """
    logits, labels = [], []
    for asked, trained in zip(HALVES, reversed(HALVES), strict=True):
        data, own_seed = halves[trained], seed_for(seed, "calibrate", trained)
        normalisation = Normalisation.of(data.images)
        half, _ = retrain(
            retraining, network.genotype, data, normalisation, network.num_classes, own_seed, loop.part(trained)
        )
        adapt(adapting, half, data, own_seed, loop.part(f"{trained} head"))
        half.eval()
        with torch.no_grad():
            batches = list(sequential_batches(halves[asked], BATCH, normalisation))
            logits += [half(images).double().cpu() for images, _ in batches]
            labels += [own.cpu() for _, own in batches]
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()
