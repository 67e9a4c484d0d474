"""The training loop, on a network of a few weights."""

import csv
import math

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.imbalance.samplers import SAMPLERS, make_sampler
from tailnas.training.history import write_history
from tailnas.training.loop import Loop, require_finite
from tailnas.training.settings import Training, WarmUp
from tailnas.training.supervised import GeneratorState, fit

SETTINGS = Training.model_validate(
    {
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.1,
        "schedule": {"name": "cosine", "minimum": 0.01},
        "warmup": None,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-3,
    }
)


def loop(folder):
    return Loop("retrain test", folder / "fit.pt", folder / "events", "none")


def run(loop, sampler="instance", gradient_clip=1.0, scale=1.0, **changes):
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
        SETTINGS.batch_size,
        Normalisation.of(images),
        Augmentation(1, True),
        torch.Generator().manual_seed(2),
    )
    noise = torch.Generator().manual_seed(3)

    def loss(inputs, labels):
        logits = scale * network(inputs)
        logits = logits * (torch.rand(logits.shape, generator=noise) > 0.1)
        return F.cross_entropy(logits, labels), logits

    history = fit(
        network,
        loss,
        batches,
        SETTINGS.model_copy(update=changes),
        loop,
        gradient_clip=gradient_clip,
        parts={"noise": GeneratorState(noise)},
        scales={"retrain.loss.scale": scale},
    )
    return history, network.state_dict()


def equal(first, second):
    return first[0] == second[0] and all(torch.equal(values, second[1][key]) for key, values in first[1].items())


def test_history_has_a_row_per_epoch_along_half_a_cosine(tmp_path):
    history, _ = run(loop(tmp_path))
    assert [list(row) for row in history] == [["epoch", "learning_rate", "loss", "accuracy"]] * 4
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [row["learning_rate"] for row in history] == pytest.approx(expected)
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_same_again_is_the_same(tmp_path):
    assert equal(run(loop(tmp_path / "a")), run(loop(tmp_path / "b")))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("moment", [1, 2, 4, 5, 6, 8, 9, 13])
def test_an_interrupted_fit_ends_as_if_nothing_had_happened(tmp_path, dying, sampler, moment):
    """Interrupted at a moment of the whole, and as far into the rest; epochs have three steps."""
    whole = run(loop(tmp_path / "whole"), sampler)
    for attempt in range(2):
        try:
            run(dying(loop(tmp_path / "cut"), moment), sampler)
        except KeyboardInterrupt:
            torch.manual_seed(attempt)
    assert equal(run(loop(tmp_path / "cut"), sampler), whole)


def scalars(folder, name="loss"):
    events = EventAccumulator(str(folder / "events")).Reload().Scalars(f"retrain/{name}")
    return [event.step for event in events], [event.value for event in events]


def test_tensorboard_gets_every_epoch_once(tmp_path, dying):
    for moment in (7, 4):  # in the second epoch, then before the end of that
        with pytest.raises(KeyboardInterrupt):
            run(dying(loop(tmp_path), moment))
    history, _ = run(loop(tmp_path))
    steps, losses = scalars(tmp_path)
    assert steps == [1, 2, 3, 4] and losses == pytest.approx([row["loss"] for row in history])


def test_a_new_run_clears_the_events_of_an_old_one(tmp_path):
    for epochs in (4, 2):
        run(loop(tmp_path), epochs=epochs)
        (tmp_path / "fit.pt").unlink()
    assert scalars(tmp_path)[0] == [1, 2]


def test_only_weights_that_want_gradients_move(tmp_path):
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

    fit(network, loss, Once(), SETTINGS, loop(tmp_path))
    changed = [not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True)]
    assert changed == [False, False, True, True]


@pytest.mark.parametrize("section", ["retrain.training", "pretrain.single_path"])
@pytest.mark.parametrize("fault", ["learning_rate", "weight_decay", "scale"])
def test_divergence_names_what_is_at_fault_first_and_then_the_rest(section, fault, tmp_path):
    stage = section.partition(".")[0]
    keys = {"learning_rate": f"{section}.learning_rate", "weight_decay": f"{stage}.training.weight_decay"}
    keys["scale"] = "retrain.loss.scale"
    scale = 1e30 if fault == "scale" else 30.0
    changes = {} if fault == "scale" else {fault: 1e38}
    own = Loop(f"{stage} test", tmp_path / "fit.pt", tmp_path / "events", "none")
    first, *others = keys.pop(fault), *keys.values()
    with pytest.raises(UserError) as error:
        run(own.part("x", section), gradient_clip=None, scale=scale, epochs=8, **changes)
    line = str(error.value)
    assert line.startswith(f"{first}: 1e+3") and (": the loss became " in line or ": a weight became " in line), line
    said = line.partition("; allowed: a value at which training stays finite; others that can be at fault: ")[2]
    assert all(f"{key} (" in said for key in others) and "gradient_clip" not in said, line


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_weight_decay_by_hand(nesterov, tmp_path):
    """A slope of 1 on each weight: v <- m v + g + wd w; the step is lr v, or with Nesterov lr (g + wd w + m v)."""
    network = nn.Linear(1, 1).double()
    nn.init.constant_(network.weight, 2.0)
    nn.init.constant_(network.bias, 3.0)

    class Steps:
        steps_per_epoch = 2

        def epoch(self):
            return iter([(torch.ones(2, 1, dtype=torch.float64), torch.tensor([0, 0]))] * 2)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    def loss(inputs, labels):
        return network(inputs).mean(), network(inputs)

    changes = {"nesterov": nesterov, "warmup": WarmUp(part=0.5, start=0.0)}
    settings = SETTINGS.model_copy(update=changes)
    history = fit(network, loss, Steps(), settings, loop(tmp_path), undecayed=[network.bias])
    expected = []
    for weight, decay in ((2.0, 1e-3), (3.0, 0.0)):
        velocity = 0.0
        for epoch in range(4):
            rate = (0.01 + 0.09 * (1 + math.cos(math.pi * epoch / 4)) / 2) * min(1, (epoch + 1) / 2)
            assert history[epoch]["learning_rate"] == pytest.approx(rate)
            for _ in range(2):
                gradient = 1 + decay * weight
                velocity = 0.9 * velocity + gradient
                weight -= rate * (gradient + 0.9 * velocity if nesterov else velocity)
        expected.append(weight)
    assert [network.weight.item(), network.bias.item()] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_or_statistic_that_is_not_finite_is_a_divergence(name, value):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    require_finite(SETTINGS, "retrain.training", 1.0, network)
    network.state_dict()[name][0] = value
    with pytest.raises(UserError, match=r"^retrain\.training\.learning_rate: 0\.1: a weight became .*; allowed: "):
        require_finite(SETTINGS, "retrain.training", 1.0, network)


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
