"""The two kinds of super-network that the source is trained into."""

from pathlib import Path

import pytest
import torch

from tailnas.data.device import DeviceImages
from tailnas.params import load_params
from tailnas.training.checkpoint import Checkpoint
from tailnas.training.loop import Loop
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
            update={"epochs": epochs, "single_path_epochs": path_epochs, "batch_size": 8}
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


def test_single_paths_are_learnt_and_an_interruption_leaves_no_trace(train, tmp_path, monkeypatch):
    network, history = train(2, 24, tmp_path / "whole")
    assert [row["epoch"] for row in history] == list(range(1, 25))
    losses = [row["loss"] for row in history]  # an epoch is four paths: one says little
    assert sum(losses[-8:]) < sum(losses[:8])
    save = Checkpoint.save

    def save_and_die(self, rows):
        save(self, rows)
        raise Killed

    folder = tmp_path / "interrupted"
    for _ in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_and_die)
            with pytest.raises(Killed):
                train(2, 24, folder)
    resumed, rows = train(2, 24, folder)
    assert rows == history and same(resumed.state_dict(), network.state_dict())
