"""The two kinds of super-network that the source is trained into."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tailnas.data.batches import sequential_batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.params import load_params
from tailnas.training.checkpoint import Checkpoint
from tailnas.training.loop import Loop
from tailnas.training.paths import single_path_loss
from tailnas.training.pretraining import pretrain, train_paths

SMOKE = Path(__file__).parents[3] / "presets" / "smoke.yaml"


class Killed(Exception):
    pass


def images(count: int, seed: int) -> DeviceImages:
    """Noise in which class c of three is brighter by c."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 120, (count, 1, 16, 16), generator=generator) + 50 * labels.view(-1, 1, 1, 1)
    return DeviceImages(pixels.to(torch.uint8), labels)


@pytest.fixture
def train(tmp_path):
    params = load_params(SMOKE)
    space = params.space.model_copy(update={"channels": 2, "cells": 3})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(epochs=3, path_epochs=None, folder=tmp_path):
        settings = params.pretrain.model_copy(
            update={
                "epochs": epochs,
                "batch_size": 12,
                "learning_rate": 0.04,
                "learning_rate_min": 0.0,
                "single_path_epochs": path_epochs,
                "single_path_learning_rate": 0.03,
            }
        )
        loop = Loop("pretrain test", folder / "a.pt", folder / "events", "none")
        data = images(36, 0), images(12, 1)
        mixture = pretrain(settings, space, *data, 3, 0, loop)
        if path_epochs is None:
            return mixture
        return train_paths(settings, mixture[0], *data, 0, loop.part("single-path"))

    yield run
    torch.set_num_threads(threads)


def same(first, second):
    return all(torch.equal(values, second[name]) for name, values in first.items())


@pytest.mark.parametrize("path_epochs", [None, 0])
def test_no_epochs_keep_the_same_initial_weights(train, path_epochs):
    network, history = train(0, path_epochs)
    assert history == [] and same(network.state_dict(), train(0)[0].state_dict())


def test_paths_start_from_the_weights_of_the_mixture_and_leave_those_alone(train, tmp_path):
    mixture = train(2, folder=tmp_path / "mixture")[0]
    assert same(train(2, 0, tmp_path / "none")[0].state_dict(), mixture.state_dict())
    untouched = {name: values.clone() for name, values in mixture.state_dict().items()}
    network, history = train(2, 1, tmp_path / "one")
    assert len(history) == 1 and not same(network.state_dict(), untouched)
    assert same(train(2, folder=tmp_path / "one")[0].state_dict(), untouched)


def test_mixture_and_paths_have_learning_rates_of_their_own(train):
    mixture, paths = (train(2, path_epochs)[1] for path_epochs in (None, 2))
    assert [row["learning_rate"] for row in mixture] == pytest.approx([0.04, 0.02])
    assert [row["learning_rate"] for row in paths] == pytest.approx([0.03, 0.015])


def path_losses(network):
    """Cross-entropy of 24 fixed random paths on the training images."""
    train, generator = images(36, 0), torch.Generator().manual_seed(1)
    loss = single_path_loss(copy.deepcopy(network).train(), generator, F.cross_entropy, "float32")
    whole, labels = next(iter(sequential_batches(train, 36, Normalisation.of(train.images))))
    with torch.no_grad():
        return torch.stack([loss(whole, labels)[0] for _ in range(24)])


def test_single_paths_are_learnt(train, tmp_path):
    mixture = train(2, folder=tmp_path / "mixture")[0]
    network, history = train(2, 16, tmp_path / "paths")
    assert [row["epoch"] for row in history] == list(range(1, 17))
    assert path_losses(network).mean() < 0.8 * path_losses(mixture).mean()  # 0.5 to 0.65 of it with most seeds


def test_an_interruption_of_single_paths_leaves_no_trace(train, tmp_path, monkeypatch):
    network, history = train(1, 3, tmp_path / "whole")
    save = Checkpoint.save

    def save_and_die(self, rows):
        save(self, rows)
        raise Killed

    folder = tmp_path / "interrupted"
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_and_die)
            with pytest.raises(Killed):
                train(1, 3, folder)
    resumed, rows = train(1, 3, folder)
    assert rows == history and same(resumed.state_dict(), network.state_dict())
