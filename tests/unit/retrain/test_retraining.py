"""Retraining: every loss, sampler and augmentation takes part, and an interrupted run ends the same, bit by bit."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.imbalance.samplers import SAMPLERS, class_probabilities, make_sampler
from tailnas.retrain.augmented import AugmentedBatches
from tailnas.retrain.branches import PairedLabels, TwoBranches
from tailnas.retrain.image_mixing import IMAGE_MIXINGS
from tailnas.retrain.initialisation import initialise
from tailnas.retrain.loss import make_loss
from tailnas.retrain.retraining import BRANCHES, augmented_batches, network_builder, retrain
from tailnas.retrain.reweighting import ReweightedLoss
from tailnas.retrain.settings import (
    BilateralBranches,
    Contrastive,
    ImageMixing,
    MixtureConsistency,
    NeverReweighted,
    Retrain,
    SingleBranch,
)
from tailnas.retrain.width import parameter_count
from tailnas.space.network import load_model, save_model
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.loop import Loop

CLASSES = 3
RESNET32 = Genotype(network="resnet32")
DEFAULT = read_yaml(Path(__file__).parents[3] / "presets" / "default.yaml")["retrain"]
LOSSES = {
    "cross_entropy": {"name": "cross_entropy"},
    "focal": {"name": "focal", "gamma": 1.0},
    "balanced_softmax": {"name": "balanced_softmax"},
    "ldam": {"name": "ldam", "margin": 0.5, "scale": 30.0},
    "logit_adjustment": {"name": "logit_adjustment", "tau": 1.5},
    "label_aware_smoothing": {
        "name": "label_aware_smoothing",
        "smoothing": {"largest": 0.3, "smallest": 0.0, "shape": "concave"},
    },
    "sigmoid_focal": {"name": "sigmoid_focal", "gamma": 1.0},
}
BRANCH_SETTINGS = SingleBranch, BilateralBranches, MixtureConsistency, Contrastive
GLMC = {
    "name": "glmc",
    "alpha": 1.0,
    "partner_exponent": 0.8,
    "label_exponent": 1.0,
    "consistency": 10.0,
    "projection": 5,
}
BCL, PROCO = (
    {"name": name, "weight": 0.7, "temperature": 0.1, "hidden": 7, "projection": 4} for name in ("bcl", "proco")
)
DEFERRED = {"when": "deferred", "beta": 0.9, "divided_by": "weights"}


def settings(**changes):
    """Of a small network, with the keys of its sections changed."""
    document = copy.deepcopy(DEFAULT)
    document["training"] |= {"epochs": 1, "batch_size": 12}
    document["network"] |= {"channels": 2, "cells": 3}
    for key, value in changes.items():
        section = next((part for part in ("training", "network", "augmentation") if key in document[part]), None)
        (document[section] if section else document)[key] = value
    return Retrain.model_validate(document)


def two(**mixing):
    return {"name": "two", "mixing": mixing}


def images(size=16, counts=(15, 6, 3)):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (sum(counts), 1, size, size), generator=generator, dtype=torch.uint8)
    return DeviceImages(pixels, torch.arange(CLASSES).repeat_interleave(torch.tensor(counts)))


def loop(folder):
    return Loop("retrain test", folder / "checkpoint.pt", folder / "events", "none")


def trained(chosen, where, data=None, seed=0):
    """where: a folder, or a loop."""
    data = data or images()
    around = where if isinstance(where, Loop) else loop(where)
    return retrain(chosen, DARTS_V1, data, Normalisation.of(data.images), CLASSES, seed, around)


def same(first, second):
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize(
    ("section", "key", "table"),
    [
        (SingleBranch, "sampler", SAMPLERS),
        (ImageMixing, "name", IMAGE_MIXINGS),
    ],
)
def test_what_may_be_chosen_is_what_there_is(section, key, table):
    assert sorted(section.model_json_schema()["properties"][key]["enum"]) == sorted(table)


def test_branches_that_may_be_chosen_are_those_that_there_are():
    properties = [part.model_json_schema()["properties"]["name"] for part in BRANCH_SETTINGS]
    names = [name for part in properties for name in part.get("enum", [part.get("const")])]
    assert names == list(BRANCHES)


FAULTS = {
    "retrain.training.learning_rate": ({"learning_rate": 1e30}, LOSSES),
    "retrain.training.weight_decay": ({"weight_decay": 1e30}, ("cross_entropy", "ldam")),
    "retrain.loss.scale": ({"loss": LOSSES["ldam"] | {"scale": 1e30}}, ("",)),
}


@pytest.mark.parametrize(("key", "loss"), [(key, loss) for key, (_, losses) in FAULTS.items() for loss in losses])
def test_a_retraining_whose_only_step_diverges_names_the_key(key, loss, tmp_path):
    changes = {"loss": LOSSES[loss]} if loss else {}
    chosen = settings(epochs=1, batch_size=24, gradient_clip=None, **changes, **FAULTS[key][0])
    with pytest.raises(UserError, match=rf"^{key}: 1e\+30: .* became .*; allowed: .* at fault: retrain\."):
        trained(chosen, tmp_path)


PUBLISHED = [
    (DARTS_V1, {"cells": 19}, 3_169_414, 3_645_840),
    (DARTS_V2, {"cells": 19}, 3_349_342, 3_825_768),
]


@pytest.mark.parametrize(("genotype", "shape", "plain", "with_auxiliary"), PUBLISHED, ids=["DARTS_V1", "DARTS_V2"])
def test_darts_own_networks_have_their_published_parameters(genotype, shape, plain, with_auxiliary):
    """Counts of DARTS' code: 36 channels, 20 cells in all, 10 classes."""
    build = network_builder(settings(**shape), genotype, 10, 3)
    with torch.device("meta"):
        networks = build(36, False), build(36, True)
    assert [parameter_count(network) for network in networks] == [plain, with_auxiliary]
    assert networks[0].reductions == (6, 13) and len(networks[0].cells) == 20 and networks[0].auxiliary_cell == 13


@pytest.mark.parametrize("cells", [3, 4, 5, 8, 19])
def test_reductions_go_by_the_depth_of_the_whole_network_with_one_branch_and_with_two(cells):
    both = [
        network_builder(settings(cells=cells, **changes), DARTS_V1, 3, 1)(1, False)
        for changes in ({}, {"branches": two(schedule="linear", time="start")})
    ]
    for network in both:
        assert network.reductions == ((cells + 1) // 3, 2 * (cells + 1) // 3)
        assert [cell.reduction for cell in network.cells] == [i in network.reductions for i in range(cells + 1)]
    assert both[1].class_head is not None and not both[1].class_head.reduction


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [({}, 464_154), ({"branches": two(schedule="parabolic", time="start")}, 464_154 + 73_984 + 640)],
    ids=["ResNet-32", "BBN-ResNet-32"],
)
def test_resnet32_through_retrain(changes, parameters, tmp_path):
    """Of BBN, one more block and the classifier's second half."""
    chosen = settings(channels=16, batch_size=10, initialisation="kaiming_normal", **changes)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 3, 16, 16), generator=generator, dtype=torch.uint8)
    data = DeviceImages(pixels, torch.arange(10).repeat(2))
    network, _ = retrain(chosen, RESNET32, data, Normalisation.of(pixels), 10, 0, loop(tmp_path))
    assert parameter_count(network) == parameters


@pytest.mark.parametrize("how", ["default", "kaiming_normal", "kaiming_normal_convolutions"])
def test_initialisation(how):
    with seeded_initialisation(0):
        network = network_builder(settings(), RESNET32, 10, 3)(16, False)
        before = {name: weight.clone() for name, weight in network.named_parameters()}
        initialise(network, how)
    for name, module in network.named_modules():
        if not isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            continue
        kaiming = how != "default" and (how == "kaiming_normal" or isinstance(module, torch.nn.Conv2d))
        assert torch.equal(module.weight, before[f"{name}.weight"]) != kaiming
        if kaiming:
            fan_in = module.weight[0].numel()
            z = module.weight.detach().double().flatten() * (fan_in / 2) ** 0.5
            assert abs(z.mean()) < 5 / len(z) ** 0.5 and abs(z.var() - 1) < 5 * (2 / len(z)) ** 0.5
            assert z.abs().max() > 2  # no uniform distribution of that variance goes there
    for name, weight in network.named_parameters():
        if weight.dim() == 1:
            assert torch.equal(weight, before[name])


@pytest.mark.parametrize(("kept", "seen"), [("keep", [7, 7, 7, 3]), ("drop", [7, 7, 7])])
@pytest.mark.parametrize("mixing", [None, {"name": "cutmix", "alpha": 1.0}], ids=["plain", "mixed"])
def test_the_last_batch(kept, seen, mixing):
    data = images()
    chosen = settings(batch_size=7, last_batch=kept, image_mixing=mixing, cutout=4)
    sampler = make_sampler("instance", data.labels, CLASSES, torch.Generator().manual_seed(0))
    batches = augmented_batches(chosen, data, Normalisation.of(data.images), sampler, 0, "test")
    assert batches.steps_per_epoch == len(seen)
    for _ in range(2):
        labels = [part.labels if mixing else part for _, part in batches.epoch()]
        assert [len(part) for part in labels] == seen
        if kept == "keep":
            assert torch.equal(torch.cat(labels).bincount(), data.labels.bincount())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_ends_in_a_plain_linear_classifier(loss, tmp_path):
    network, history = trained(settings(loss=LOSSES[loss]), tmp_path)
    assert type(network.classifier) is torch.nn.Linear and network.classifier.bias is not None
    assert (network.feature_norm is not None) == (loss == "ldam")
    save_model(tmp_path / "model.safetensors", network)
    pixels = images().images
    assert torch.equal(load_model(tmp_path / "model.safetensors").predict(pixels), network.predict(pixels))
    assert history[0]["loss"] > 0


def test_ldam_predicts_with_cosines(tmp_path):
    network, _ = trained(settings(loss=LOSSES["ldam"]), tmp_path)
    network.eval()
    inputs = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits, features = network(inputs), network.features(inputs)
    cosines = F.cosine_similarity(features[:, None], network.classifier.weight[None], dim=2)
    torch.testing.assert_close(logits, 30 * cosines, rtol=1e-4, atol=1e-4)


def test_logit_adjustment_differs_from_cross_entropy_by_the_bias_alone(tmp_path):
    plain, _ = trained(settings(), tmp_path / "plain")
    adjusted, _ = trained(settings(loss=LOSSES["logit_adjustment"]), tmp_path / "adjusted")
    difference = plain.classifier.bias - adjusted.classifier.bias
    torch.testing.assert_close(difference, 1.5 * (torch.tensor([15.0, 6.0, 3.0]) / 24).log())
    with torch.no_grad():
        adjusted.classifier.bias.copy_(plain.classifier.bias)
    assert same(plain, adjusted)


def test_deferred_weights_change_the_last_fifth_only(tmp_path):
    _, plain = trained(settings(epochs=5), tmp_path / "plain")
    _, deferred = trained(settings(epochs=5, reweighting=DEFERRED), tmp_path / "deferred")
    equal = [first["loss"] == second["loss"] for first, second in zip(plain, deferred, strict=True)]
    assert equal == [True] * 4 + [False]


COUNTS = (75, 30, 15)


def probabilities_of_the_blind(chosen, folder, priors):
    """What a network learns of images that are all alike: how often classes are drawn, seen by the loss.

    What it says of that, its prior, is appended to `priors`.
    """
    data = images(8, COUNTS)
    data = DeviceImages(torch.full_like(data.images, 7), data.labels)
    network, _ = trained(chosen, folder, data)
    priors.append(torch.tensor(network.prior, dtype=torch.float64))
    network.train()  # statistics of the batch, as learnt
    inputs = torch.zeros(2, 1, 8, 8)
    with torch.no_grad():
        if chosen.branches.name == "two":
            logits = network.mixed_logits(inputs, inputs, chosen.branches.mixing.ratio)
        else:
            logits = network(inputs)
    return logits[0].softmax(0).double()


def blind(**changes):
    rates = {"learning_rate": 0.2, "schedule": {"name": "cosine", "minimum": 0.1}, "weight_decay": 0.0}
    return settings(epochs=25, batch_size=sum(COUNTS), crop_padding=0, **rates, **changes)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_sampler_says_how_often_a_class_is_seen(sampler, tmp_path):
    found = probabilities_of_the_blind(blind(branches={"name": "one", "sampler": sampler}), tmp_path, priors := [])
    # the last epochs count most
    at_the_end = "class_balanced" if sampler in ("progressively_balanced", "class_aware") else sampler
    torch.testing.assert_close(found, class_probabilities(at_the_end, COUNTS), rtol=0, atol=0.06)
    torch.testing.assert_close(priors[0], class_probabilities(at_the_end, COUNTS))


def test_priors_are_those_of_the_data_whatever_the_sampler(tmp_path):
    chosen = blind(branches={"name": "one", "sampler": "class_balanced"}, loss=LOSSES["balanced_softmax"])
    # softmax(z + log n) is uniform
    torch.testing.assert_close(
        probabilities_of_the_blind(chosen, tmp_path, priors := []),
        class_probabilities("reversed", COUNTS),
        rtol=0,
        atol=0.06,
    )
    torch.testing.assert_close(priors[0], class_probabilities("reversed", COUNTS))


WEIGHTED = {"when": "always", "beta": 0.99, "divided_by": "weights"}


@pytest.mark.parametrize(
    ("changes", "factors"),
    [
        ({}, [1, 1, 1]),
        ({"loss": LOSSES["logit_adjustment"]}, [n**-1.5 for n in COUNTS]),
        ({"loss": LOSSES["ldam"]}, [1, 1, 1]),
        ({"reweighting": WEIGHTED}, [1 / (1 - 0.99**n) for n in COUNTS]),
        ({"reweighting": {**WEIGHTED, "when": "deferred"}}, [1 / (1 - 0.99**n) for n in COUNTS]),
        ({"branches": two(schedule="linear", time="midpoint")}, [1 / n for n in COUNTS]),
        ({"branches": {**GLMC, "partner_exponent": 0.0}}, [1 / n * (0.5 + 20 / n) for n in COUNTS]),
    ],
    ids=["plain", "logit adjustment", "margins", "weights", "deferred weights", "two branches", "glmc"],
)
def test_what_probabilities_assume(changes, factors, tmp_path):
    """Class frequencies (all images, 120 of them, of three classes) times what the recipe makes of each class."""
    chosen = settings(epochs=5 if "reweighting" in changes else 1, batch_size=120, **changes)
    network, _ = trained(chosen, tmp_path, images(16, COUNTS))
    expected = torch.tensor(COUNTS, dtype=torch.float64) * torch.tensor(factors, dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(network.prior, dtype=torch.float64), expected / expected.sum())


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_branches_see_instances_and_reversed_classes_in_the_ratio_of_the_mixing(ratio, tmp_path):
    chosen = blind(branches=two(schedule="constant", time="start", ratio=ratio))
    instance, reversed_ = (class_probabilities(kind, COUNTS) for kind in ("instance", "reversed"))
    torch.testing.assert_close(
        probabilities_of_the_blind(chosen, tmp_path, []), ratio * instance + (1 - ratio) * reversed_, rtol=0, atol=0.06
    )


@pytest.mark.parametrize(
    ("mixing", "ratios"),
    [
        ({"schedule": "parabolic", "time": "start"}, [1.0, 0.75]),
        ({"schedule": "linear", "time": "midpoint"}, [0.75, 0.25]),
        ({"schedule": "constant", "time": "start", "ratio": 0.3}, [0.3, 0.3]),
    ],
)
def test_two_branches_weigh_their_losses_by_the_schedule(mixing, ratios):
    chosen = settings(branches=two(**mixing))
    network = network_builder(chosen, DARTS_V1, CLASSES, 1)(2, False).eval()
    loss = ReweightedLoss(make_loss(chosen.loss, [15, 6, 3]), NeverReweighted(when="never"))
    asked = []
    branches = TwoBranches(chosen, network, loss, lambda *branch: (asked.append(branch), None), 0)
    assert [sampler for _, sampler in asked] == ["instance", "reversed"] and asked[0][0] != asked[1][0]
    inputs = torch.randn(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 2]), torch.tensor([2, 2, 1, 0])
    for epoch, mu in enumerate(ratios):
        branches.set_epoch(epoch, 2)
        value, logits = branches.loss(tuple(inputs), PairedLabels(*labels))
        torch.testing.assert_close(logits, network.mixed_logits(*inputs, mu))
        instance, klass = (F.cross_entropy(logits, of_branch) for of_branch in labels)
        torch.testing.assert_close(value, mu * instance + (1 - mu) * klass)


def test_the_ratio_of_two_branches_moves_with_the_epochs(tmp_path):
    constant, moving = (
        trained(settings(branches=two(time="start", **mixing), epochs=2), tmp_path / mixing["schedule"])[1]
        for mixing in ({"schedule": "constant", "ratio": 1.0}, {"schedule": "parabolic"})
    )
    assert constant[0]["loss"] == moving[0]["loss"] and constant[1]["loss"] != moving[1]["loss"]


def test_augmentation_that_is_asked_for(tmp_path):
    data = images()

    def made(**changes):
        sampler = make_sampler("instance", data.labels, CLASSES, torch.Generator())
        return augmented_batches(settings(**changes), data, Normalisation.of(data.images), sampler, 0, "test")

    assert isinstance(made(), Batches)
    wanted = {
        "rand_augment": {"operations": 3, "magnitude": 9},
        "cutout": 5,
        "image_mixing": {"name": "cutmix", "alpha": 0.7},
    }
    for key, value in wanted.items():
        batches = made(**{key: value})
        assert isinstance(batches, AugmentedBatches)
        assert [part for part in wanted if getattr(batches, part) is not None] == [key]
    everything = made(**wanted)
    assert everything.rand_augment.operations == 3 and everything.cutout.side == 5
    assert type(everything.image_mixing) is IMAGE_MIXINGS["cutmix"] and everything.image_mixing.alpha == 0.7


@pytest.mark.parametrize("loss", ["cross_entropy", "ldam"])
def test_auxiliary_head(loss, tmp_path):
    network, history = trained(settings(auxiliary_weight=0.4, loss=LOSSES[loss]), tmp_path, images(32))
    assert network.auxiliary_head is not None and history[0]["loss"] > 0


def test_width_fits_the_budget(tmp_path):
    network, _ = trained(settings(channels=None, parameters=27_000), tmp_path)
    assert parameter_count(network) == pytest.approx(27_000, rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "loss": LOSSES["ldam"],
            "reweighting": DEFERRED,
            "branches": {"name": "one", "sampler": "progressively_balanced"},
            "image_mixing": {"name": "cutmix", "alpha": 1.0},
        },
        {
            "loss": LOSSES["focal"],
            "reweighting": DEFERRED,
            "branches": {"name": "one", "sampler": "class_aware"},
            "image_mixing": {"name": "mixup", "alpha": 1.0},
            "last_batch": "keep",
            "batch_size": 20,
        },
        {
            "branches": two(schedule="parabolic", time="start"),
            "image_mixing": {"name": "mixup", "alpha": 1.0},
        },
        {"branches": GLMC},
        {"branches": PROCO},
    ],
    ids=["ldam", "focal", "two branches", "glmc", "proco"],
)
def test_interrupted_run_ends_bit_identical(changes, tmp_path, dying):
    further = {"drop_path": 0.3, "rand_augment": {"operations": 1, "magnitude": 9}, "cutout": 4}
    chosen = settings(**changes, **further, epochs=5)
    whole, history = trained(chosen, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(chosen, dying(loop(tmp_path / "killed"), 8))  # in the third epoch, of two or three steps
    torch.manual_seed(1234)
    resumed, resumed_history = trained(chosen, tmp_path / "killed")
    assert resumed_history == history and same(whole, resumed)
    other, _ = trained(chosen, tmp_path / "other", seed=1)
    assert not same(whole, other)
