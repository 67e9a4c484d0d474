"""The two kinds of super-network that the source is trained into."""

from pathlib import Path

import pytest
import torch

from tailnas.data.device import DeviceImages
from tailnas.params import load_params
from tailnas.training.checkpoint import Checkpoint
from tailnas.training.loop import Loop
from tailnas.training.pretraining import merged_histories, pretrain

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

    def run(paths, epochs=3, folder=tmp_path):
        settings = params.pretrain.model_copy(update={"epochs": epochs, "batch_size": 8})
        loop = Loop("pretrain test", folder / "a.pt", folder / "events", "none")
        return pretrain(settings, space, images(36, 0), images(12, 1), 3, 0, loop, paths)

    yield run
    torch.set_num_threads(threads)


def same(first, second):
    return all(torch.equal(values, second[name]) for name, values in first.items())


@pytest.mark.parametrize("paths", ["mixture", "single"])
def test_no_epochs_keep_the_same_initial_weights(train, paths):
    network, history = train(paths, epochs=0)
    assert history == [] and same(network.state_dict(), train("mixture", epochs=0)[0].state_dict())


def test_single_paths_are_learnt_and_an_interruption_leaves_no_trace(train, tmp_path, monkeypatch):
    network, history = train("single", epochs=5, folder=tmp_path / "whole")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert history[-1]["loss"] < history[0]["loss"]
    save = Checkpoint.save

    def save_and_die(self, rows):
        save(self, rows)
        raise Killed

    folder = tmp_path / "interrupted"
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_and_die)
            with pytest.raises(Killed):
                train("single", epochs=5, folder=folder)
    resumed, rows = train("single", epochs=5, folder=folder)
    assert rows == history and same(resumed.state_dict(), network.state_dict())


def test_histories_of_both_are_one_table():
    first = [{"epoch": 1, "learning_rate": 0.1, "loss": 2.0}, {"epoch": 2, "learning_rate": 0.0, "loss": 1.0}]
    second = [{"epoch": 1, "learning_rate": 0.1, "loss": 3.0}, {"epoch": 2, "learning_rate": 0.0, "loss": 2.5}]
    assert merged_histories([first]) == first
    assert merged_histories([first, second])[1] == {**first[1], "single_path_loss": 2.5}
    assert merged_histories([[], []]) == []
