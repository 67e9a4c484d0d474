"""Calibration's judges: each half's images by a network of the other half, which took as many steps as the run's."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tailnas.adapt.head_adaptation import adapt
from tailnas.adapt.settings import ADAPT
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.calibrate.cross_fit import cross_fitted_logits
from tailnas.foundation.seeding import seed_for
from tailnas.foundation.yaml_file import read_yaml
from tailnas.genotype.genotype import DARTS_V1
from tailnas.retrain.retraining import retrain
from tailnas.retrain.settings import Retrain
from tailnas.space.network import Network
from tailnas.training.loop import Loop

DEFAULT = read_yaml(Path(__file__).parents[3] / "presets" / "default.yaml")


def settings(factor):
    """A short recipe, `factor` times as long."""
    document = copy.deepcopy(DEFAULT)
    document["retrain"]["training"] |= {"epochs": factor, "batch_size": 4}
    document["retrain"]["network"] |= {"channels": 2, "cells": 3}
    document["adapt"]["training"] |= {"epochs": 2 * factor, "batch_size": 4}
    return Retrain.model_validate(document["retrain"]), ADAPT.parse(document["adapt"])


def images(seed, labels):
    pixels = torch.randint(
        256, (len(labels), 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return DeviceImages(pixels, torch.tensor(labels))


@pytest.mark.parametrize("networks", [1, 2])
def test_images_are_judged_by_the_other_half(networks, tmp_path):
    halves = {"weight": images(0, [0, 0, 0, 0, 1, 2]), "architecture": images(1, [0, 0, 0, 1, 2])}
    own = Network(DARTS_V1, 2, 4, 3, in_channels=1)
    before = copy.deepcopy(own.state_dict())
    loop = Loop("calibrate test", tmp_path / "checkpoint.pt", tmp_path / "events", "none")
    logits, labels = cross_fitted_logits(*settings(1), own, halves, networks, 5, loop)
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())

    expected = []
    for asked, trained in [("weight", "architecture"), ("architecture", "weight")][-networks:]:
        data, seed = halves[trained], seed_for(5, "calibrate", trained)
        retraining, adapting = settings(2)
        normalisation = Normalisation.of(data.images)
        by_hand = tmp_path / f"by hand {trained}"
        judge, _ = retrain(
            retraining, DARTS_V1, data, normalisation, 3, seed, Loop("retrain x", by_hand / "a", by_hand / "b", "none")
        )
        adapt(adapting, judge, data, seed, Loop("adapt x", by_hand / "c", by_hand / "d", "none"))
        expected.append(torch.log(judge.predict(halves[asked].images)))
    found = torch.log_softmax(torch.from_numpy(logits), dim=1)
    torch.testing.assert_close(found, torch.cat(expected).double(), rtol=1e-4, atol=1e-5)
    assert labels.tolist() == [0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2][-len(labels) :]
    assert len(labels) == (11 if networks == 2 else 5) and np.isfinite(logits).all()
