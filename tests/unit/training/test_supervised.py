"""The training loop, on a network of a few weights."""

import csv
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tailnas.data.augmentation import Augmentation
from tailnas.data.batches import Batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.errors import UserError
from tailnas.imbalance.samplers import SAMPLERS, make_sampler
from tailnas.training.history import write_history
from tailnas.training.loop import Loop
from tailnas.training.progress import Progress
from tailnas.training.schedules import cosine_learning_rate
from tailnas.training.supervised import GeneratorState, fit

SETTINGS = {"epochs": 4, "learning_rate": 0.1, "learning_rate_min": 0.01, "momentum": 0.9, "weight_decay": 1e-3}


def run(folder, sampler="instance", gradient_clip=1.0, **settings):
    """Train a small convolution with batch normalisation and drop-out of its own; returns history and weights."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=generator).to(torch.uint8)
    data = DeviceImages(images, torch.tensor([0] * 15 + [1] * 10 + [2] * 5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network.append(nn.Linear(4, 3))
    batches = Batches(
        data,
        make_sampler(sampler, data.labels, 3, torch.Generator().manual_seed(1)),
        8,
        Normalisation.of(images),
        Augmentation(1, True),
        torch.Generator().manual_seed(2),
    )
    noise = torch.Generator().manual_seed(3)

    def loss(inputs, labels):
        logits = network(inputs)
        logits = logits * (torch.rand(logits.shape, generator=noise) > 0.1)
        return F.cross_entropy(logits, labels), logits

    history = fit(
        network,
        loss,
        batches,
        SimpleNamespace(**{**SETTINGS, **settings}),
        Loop("retrain test", folder / "fit.pt", folder / "events", "none"),
        gradient_clip=gradient_clip,
        parts={"noise": GeneratorState(noise)},
    )
    return history, network.state_dict()


def equal(first, second):
    return first[0] == second[0] and all(torch.equal(values, second[1][key]) for key, values in first[1].items())


def test_history_has_a_row_an_epoch_along_half_a_cosine(tmp_path):
    history, _ = run(tmp_path)
    assert [list(row) for row in history] == [["epoch", "learning_rate", "loss", "accuracy"]] * 4
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [row["learning_rate"] for row in history] == pytest.approx(expected)
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_same_again_is_the_same(tmp_path):
    assert equal(run(tmp_path / "a"), run(tmp_path / "b"))


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("moment", ["step", "epoch"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_an_interrupted_fit_ends_as_if_nothing_had_happened(tmp_path, monkeypatch, sampler, moment, count):
    """`count` steps or epochs into it, and again as far into the rest, each time in a process of its own."""
    whole = run(tmp_path / "whole", sampler)
    for attempt in range(2):
        left = iter(range(count - 1))

        def die(*args, left=left):
            if next(left, None) is None:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Progress, moment, die)
            try:
                run(tmp_path / "cut", sampler)
            except Killed:
                torch.manual_seed(attempt)
    assert equal(run(tmp_path / "cut", sampler), whole)


def test_tensorboard_gets_every_epoch_once(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def die(*args):
        raise Killed

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Progress, "epoch", die)
            run(tmp_path)
    history, _ = run(tmp_path)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in history])


def test_a_new_run_clears_the_events_of_an_old_one(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for epochs in (4, 2):
        run(tmp_path, epochs=epochs)
        (tmp_path / "fit.pt").unlink()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]


def test_only_weights_that_want_gradients_move(tmp_path):
    settings = SimpleNamespace(**SETTINGS)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    before = [weight.clone() for weight in network.parameters()]

    class Once:
        steps_per_epoch = 1

        def epoch(self):
            return iter([(torch.ones(3, 4), torch.tensor([0, 1, 1]))])

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    def loss(inputs, labels):
        logits = network(inputs)
        return F.cross_entropy(logits, labels), logits

    fit(network, loss, Once(), settings, Loop("adapt test", tmp_path / "fit.pt", tmp_path / "events", "none"))
    changed = [not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True)]
    assert changed == [False, False, True, True]


def test_divergence_names_the_rate(tmp_path):
    with pytest.raises(UserError, match=r"^retrain\.learning_rate: the loss became (nan|inf); allowed: "):
        run(tmp_path, gradient_clip=None, learning_rate=1e38, epochs=8)


def test_cosine_from_start_to_end():
    assert cosine_learning_rate(0, 0.1, 0.01) == pytest.approx(0.1)
    assert cosine_learning_rate(0.5, 0.1, 0.01) == pytest.approx(0.055)
    assert cosine_learning_rate(1, 0.1, 0.01) == pytest.approx(0.01)


def test_history_files_keep_every_digit(tmp_path):
    rows = [{"epoch": 1, "loss": 0.1 + 0.2, "genotype": '{"normal": [["a", 0]]}'}, {"epoch": 2, "loss": 1e-17}]
    write_history(tmp_path / "history.csv", rows)
    with (tmp_path / "history.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [float(row["loss"]) for row in read] == [0.1 + 0.2, 1e-17]
    assert read[0]["genotype"] == rows[0]["genotype"]
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


def test_a_history_without_epochs_has_a_header(tmp_path):
    write_history(tmp_path / "history.csv", [])
    assert (tmp_path / "history.csv").read_text() == "epoch\n"
