"""Retraining: every loss, sampler and augmentation takes part, and an interrupted run ends the same, bit by bit."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from tailnas.data.augmented import AugmentedBatches
from tailnas.data.batches import Batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.data.image_mixing import IMAGE_MIXINGS
from tailnas.imbalance.losses import LOSSES
from tailnas.imbalance.losses.reweighting import ReweightedLoss
from tailnas.imbalance.mixing import MIXING_SCHEDULES
from tailnas.imbalance.samplers import SAMPLERS, make_sampler
from tailnas.params import Retrain, load_params
from tailnas.space.genotype import DARTS_V1
from tailnas.space.network import Network, load_model, save_model
from tailnas.space.width import parameter_count
from tailnas.training.branches import BRANCHES, TwoBranches
from tailnas.training.checkpoint import Checkpoint
from tailnas.training.loop import Loop
from tailnas.training.retraining import augmented_batches, retrain

CLASSES = 3
ROOT = Path(__file__).parents[3]
PRESET = load_params(ROOT / "presets" / "smoke.yaml").retrain


def settings(**changes):
    small = {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 12}
    return Retrain.model_validate({**PRESET.model_dump(), **small, **changes})


def images(size=16):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (24, 1, size, size), generator=generator, dtype=torch.uint8)
    return DeviceImages(pixels, torch.arange(CLASSES).repeat_interleave(torch.tensor([15, 6, 3])))


def trained(chosen, folder, data=None, seed=0):
    data = data or images()
    loop = Loop("retrain test", folder / "checkpoint.pt", folder / "events", "none")
    return retrain(chosen, DARTS_V1, data, Normalisation.of(data.images), CLASSES, seed, loop)


def same(first, second):
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize(
    ("field", "registry"),
    [
        ("loss", [*LOSSES]),
        ("sampler", [*SAMPLERS]),
        ("image_mixing", ["none", *IMAGE_MIXINGS]),
        ("branches", [*BRANCHES]),
        ("mixing_schedule", [*MIXING_SCHEDULES]),
    ],
)
def test_choices_are_the_registries(field, registry):
    assert sorted(get_args(Retrain.model_fields[field].annotation)) == sorted(registry)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_ends_in_a_plain_linear_classifier(loss, tmp_path):
    network, history = trained(settings(loss=loss), tmp_path)
    assert type(network.classifier) is torch.nn.Linear and network.classifier.bias is not None
    assert (network.feature_norm is not None) == (loss == "ldam")
    save_model(tmp_path / "model.safetensors", network, "abc", (0.5,), (0.3,))
    network.normalisation = (0.5,), (0.3,)
    pixels = images().images
    assert torch.equal(load_model(tmp_path / "model.safetensors").predict(pixels), network.predict(pixels))
    assert history[0]["loss"] > 0


def test_ldam_predicts_with_cosines(tmp_path):
    network, _ = trained(settings(loss="ldam"), tmp_path)
    network.eval()
    with torch.no_grad():
        maps, _ = network._maps(torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(3)), network._heads())
        logits = network.classifier(network._seen_by_classifier(maps))
        cosines = torch.nn.functional.cosine_similarity(
            maps[0].mean(dim=(2, 3))[:, None], network.classifier.weight[None], dim=2
        )
    torch.testing.assert_close(logits, 30 * cosines, rtol=1e-4, atol=1e-4)


def test_logit_adjustment_differs_from_cross_entropy_by_the_bias_alone(tmp_path):
    plain, _ = trained(settings(), tmp_path / "plain")
    adjusted, _ = trained(settings(loss="logit_adjustment", logit_adjustment_tau=1.5), tmp_path / "adjusted")
    difference = plain.classifier.bias - adjusted.classifier.bias
    torch.testing.assert_close(difference, 1.5 * (torch.tensor([15.0, 6.0, 3.0]) / 24).log())
    with torch.no_grad():
        adjusted.classifier.bias.copy_(plain.classifier.bias)
    assert same(plain, adjusted)


def test_deferred_weights_change_the_last_fifth_only(tmp_path):
    runs = {}
    for drw in (False, True):
        _, runs[drw] = trained(settings(drw=drw, epochs=5, beta=0.9), tmp_path / str(drw))
    losses = [(plain["loss"], deferred["loss"]) for plain, deferred in zip(*runs.values(), strict=True)]
    assert all(plain == deferred for plain, deferred in losses[:4]) and losses[4][0] != losses[4][1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampler_is_used_and_knows_the_epoch(sampler, tmp_path, monkeypatch):
    from tailnas.training import retraining

    made, epochs = [], []

    def spied(name, *rest):
        made.append(name)
        result = make_sampler(name, *rest)
        real = result.set_epoch
        result.set_epoch = lambda epoch, of: epochs.append((epoch, of)) or real(epoch, of)
        return result

    monkeypatch.setattr(retraining, "make_sampler", spied)
    trained(settings(sampler=sampler, epochs=2), tmp_path)
    assert made == [sampler] and epochs == [(0, 2), (1, 2)]


def test_priors_are_those_of_the_data_whatever_the_sampler(tmp_path, monkeypatch):
    from tailnas.training import retraining

    counts = []
    monkeypatch.setattr(
        retraining,
        "ReweightedLoss",
        lambda loss, *rest: counts.append(loss.counts.tolist()) or ReweightedLoss(loss, *rest),
    )
    trained(settings(sampler="reversed", loss="balanced_softmax"), tmp_path)
    assert counts == [[15, 6, 3]]


def test_augmentation_that_is_asked_for(tmp_path):
    data = images()

    def made(**changes):
        sampler = make_sampler("instance", data.labels, CLASSES, torch.Generator())
        return augmented_batches(settings(**changes), data, Normalisation.of(data.images), sampler, 0, "test")

    assert isinstance(made(), Batches)
    for changes in ({"rand_augment_operations": 2}, {"cutout": 4}, {"image_mixing": "mixup"}):
        batches = made(**changes)
        assert isinstance(batches, AugmentedBatches)
        present = [part is not None for part in (batches.rand_augment, batches.cutout, batches.image_mixing)]
        assert present == [key in changes for key in ("rand_augment_operations", "cutout", "image_mixing")]
    everything = made(rand_augment_operations=3, cutout=5, image_mixing="cutmix", image_mixing_alpha=0.7)
    assert everything.rand_augment.operations == 3 and everything.cutout.side == 5
    assert type(everything.image_mixing) is IMAGE_MIXINGS["cutmix"] and everything.image_mixing.alpha == 0.7


@pytest.mark.parametrize("loss", ["cross_entropy", "ldam"])
def test_auxiliary_head(loss, tmp_path):
    network, history = trained(settings(auxiliary_weight=0.4, loss=loss), tmp_path, images(32))
    assert network.auxiliary_head is not None and history[0]["loss"] > 0


def test_width_fits_the_budget(tmp_path):
    network, _ = trained(settings(channels=None, parameters=27_000), tmp_path)
    assert parameter_count(network) == pytest.approx(27_000, rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "ldam", "drw": True, "sampler": "progressively_balanced", "image_mixing": "cutmix"},
        {"loss": "focal", "drw": True, "sampler": "reversed", "image_mixing": "mixup"},
        {"branches": "two", "image_mixing": "mixup"},
    ],
)
def test_interrupted_run_ends_bit_identical(changes, tmp_path, monkeypatch):
    chosen = settings(
        **changes, epochs=5, drop_path=0.3, rand_augment_operations=1, cutout=4, momentum=0.9, learning_rate=0.05
    )
    whole, history = trained(chosen, tmp_path / "whole")
    real = Checkpoint.save

    def killed(self, rows):
        real(self, rows)
        if len(rows) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", killed)
        trained(chosen, tmp_path / "killed")
    torch.manual_seed(1234)
    resumed, resumed_history = trained(chosen, tmp_path / "killed")
    assert resumed_history == history and same(whole, resumed)
    other, _ = trained(chosen, tmp_path / "other", seed=1)
    assert not same(whole, other)


@pytest.mark.parametrize(
    ("schedule", "time", "ratios"),
    [("parabolic", "start", [1.0, 0.75]), ("linear", "midpoint", [0.75, 0.25]), ("constant", "start", [0.3, 0.3])],
)
def test_two_branches_weigh_their_losses_by_the_schedule(schedule, time, ratios, tmp_path, monkeypatch):
    seen, mixed = [], []
    real = Network.mixed_logits
    monkeypatch.setattr(Network, "mixed_logits", lambda self, i, c, mu: mixed.append(mu) or real(self, i, c, mu))

    class Spied(TwoBranches):
        def loss(self, images, targets):
            value, logits = super().loss(images, targets)
            mu = self.mixing_ratio
            losses = [torch.nn.functional.cross_entropy(logits, labels) for labels in (targets.instance, targets.klass)]
            torch.testing.assert_close(value, mu * losses[0] + (1 - mu) * losses[1])
            seen.append(mu)
            return value, logits

    monkeypatch.setitem(BRANCHES, "two", Spied)
    chosen = settings(branches="two", epochs=2, mixing_schedule=schedule, mixing_time=time, mixing_constant=0.3)
    network, history = trained(chosen, tmp_path)
    assert seen == mixed == pytest.approx([ratio for ratio in ratios for _ in range(2)])
    assert type(network.classifier) is torch.nn.Linear and network.class_head is not None and len(history) == 2


def test_class_branch_draws_reversed_and_by_itself(tmp_path, monkeypatch):
    from tailnas.training import retraining

    made = []
    monkeypatch.setattr(
        retraining,
        "make_sampler",
        lambda name, labels, classes, generator: (
            made.append((name, generator.initial_seed())) or make_sampler(name, labels, classes, generator)
        ),
    )
    trained(settings(branches="two"), tmp_path)
    assert [name for name, _ in made] == ["instance", "reversed"] and made[0][1] != made[1][1]


def test_heads_of_a_two_branch_network_adapt_as_one(tmp_path):
    from tailnas.training.adaptation import adapt

    network, _ = trained(settings(branches="two"), tmp_path / "retrain")
    network.normalisation = (0.5,), (0.3,)
    before = {key: value.clone() for key, value in network.state_dict().items() if "classifier" not in key}
    adapting = load_params(ROOT / "presets" / "smoke.yaml").adapt
    adapt(adapting, network, images(), 0, Loop("adapt", tmp_path / "a.pt", tmp_path / "events", "none"))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
