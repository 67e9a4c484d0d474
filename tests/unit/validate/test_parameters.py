"""Mistakes in params.yaml: one line each, with the key, the value and what is allowed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tailnas.foundation.errors import UserError
from tailnas.validate.parameters import checked_params

ROOT = Path(__file__).parents[3]

RATE = "a finite number above 0"
SHARE = "a finite number at least 0, below 1"
METHODS = "bbn, bbn_hls, beta_darts"

# What stands there instead of a section: text, null or a list. The same is said of each.
NO_SECTIONS = [
    ("study", "a section with the keys methods, imbalance_factors, seeds"),
    ("search", "a section with the keys training, augment_architecture_half, bilevel, bbn"),
    ("search.darts_v2", "an empty section"),
    ("search.bbn_hls", "a section with the keys mixing, mix, heads, backbone"),
    ("search.bbn_hls.mixing", "a section with schedule: linear, parabolic"),
    ("data.target", "a section with kind: cifar10, cifar100"),
    ("retrain.network", "a section with the keys channels, parameters"),
    ("data.watch", "a section with the keys source, target"),
    ("retrain.loss", "a section with name: balanced_softmax, cross_entropy"),
    ("retrain.reweighting", "a section with when: never, always, deferred"),
    ("adapt", "a section with method: crt, label_over_smooth, lws"),
    ("adapt.training", "a section with the keys epochs, batch_size"),
]

# The key that is set, what it is set to, and what is allowed there (how that begins).
WRONG_VALUES = [
    *[(key, value, allowed) for key, allowed in NO_SECTIONS for value in ("text", None, [], [{"name": "focal"}])],
    # wrong types
    ("search.training.epochs", "ten", "an integer at least 1"),
    ("search.training.epochs", 2.5, "an integer at least 1"),
    ("search.training.epochs", True, "an integer at least 1"),
    ("retrain.training.learning_rate", "1e-2x", RATE),
    ("retrain.training.flip", "no", "true or false"),
    ("search.bilevel.architecture_betas", 0.5, f"a list of 2 entries, each {SHARE}"),
    ("search.bilevel.architecture_betas", [0.5], f"a list of 2 entries, each {SHARE}"),
    ("pretrain.single_path", 3, "a section with the keys epochs, learning_rate or null"),
    ("retrain.augmentation.rand_augment", "none", "a section with the keys operations, magnitude or null"),
    # out of bounds
    ("search.training.epochs", 0, "an integer at least 1"),
    ("search.training.learning_rate", -0.1, RATE),
    ("search.training.momentum", 1.0, SHARE),
    ("search.random_best.epochs", 0, "an integer at least 1"),
    ("runtime.threads", 0, "an integer at least 1, at most 1024"),
    ("runtime.device", "gpu", "text matching ^(auto|cpu|cuda(:[0-9]+)?)$"),
    ("data.image_size", 18, "an integer at least 16, at most 1024, a multiple of 4"),
    ("data.channels", 2, "1, 3"),
    ("space.cells", 2, "an integer at least 3"),
    ("split.n_max", 3, "an integer at least 4 or null"),
    ("split.profile", "linear", "exp, step, natural"),
    ("split.class_order", "random", "shuffled, given"),
    ("derive.epoch", "first", '"last" or an integer at least 1'),
    ("evaluate.calibration_bins", 0, "an integer at least 1"),
    ("retrain.augmentation.cutout", -1, "an integer at least 0"),
    ("retrain.network.channels", 0, "an integer at least 1, at most 1024 or null"),
    ("retrain.branches.sampler", "uniform", "instance, class_balanced"),
    # the study's lists
    ("study.seeds", [], "a list of 1 or more different entries, each an integer"),
    ("study.seeds", 0, "a list of 1 or more different entries, each an integer"),
    ("study.seeds", [0, 0], "a list without duplicates"),
    ("study.methods", "darts", f"a list of 1 or more different entries, each {METHODS}"),
    ("study.methods", ["darts", "darts"], "a list without duplicates"),
    ("study.imbalance_factors", [30, 30.0], "a list without duplicates"),
    ("export.formats", ["torch_export", "torch_export"], "a list without duplicates"),
    ("export.input", "float64", "uint8, float32"),
    ("calibrate.networks", 3, "0, 1, 2"),
    ("calibrate.miss", 0.0, "a finite number above 0, below 1"),
    # sections that are chosen
    ("adapt.training.epochs", 0, "an integer at least 1"),
    ("adapt.beta", 1, SHARE),
    ("data.target.test_per_class", 174, "an integer at least 1, at most 173"),
    ("data.target.name", "a/b", "text matching ^[A-Za-z0-9]"),
    ("data.source.alphabet", "greek", "letters, digits, all"),
    ("data.source.train_per_class", 3, "an integer at least 4"),
    # names of files that are not there
    ("retrain.loss.name", "hinge", "balanced_softmax, cross_entropy, focal"),
    ("adapt.method", "prune", "crt, label_over_smooth, lws"),
    ("data.target.kind", "imagenet", "cifar10, cifar100, digits"),
    ("data.target.kind", "../digits", "cifar10, cifar100, digits"),
    ("data.target.kind", ["digits"], "cifar10, cifar100, digits"),
    ("search.imb_nas.adaptation.name", "tail", "none, head, finetune, scratch"),
    ("search.bbn_hls.backbone.schedule", "cubic", "constant, mixing, cosine"),
    # one value by another
    ("search.training.schedule", {"name": "cosine", "minimum": 1.0}, "a minimum of at most learning_rate (0.025)"),
    ("adapt.training.schedule", {"name": "cosine", "minimum": 1.0}, "a minimum of at most learning_rate (0.05)"),
    ("retrain.training.schedule.name", "linear", "cosine, steps"),
    ("retrain.training.warmup", 5, "a section with the keys part, start or null"),
    ("retrain.network.parameters", 5000, "null beside channels"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG_VALUES, ids=str)
def test_a_wrong_value_is_one_line(complaints, key, value, allowed):
    (line,) = complaints({key: value})
    assert line.startswith(f"{key}: {json.dumps(value)}; allowed: {allowed}")


def evolution(**numbers):
    section = {"name": "evolution", "count": 50, "population": 8, "tournament": 4}
    return {"search.imb_nas.candidates": section | numbers}


OTHER_MISTAKES = [
    # not a number, and entries of lists
    ({"search.training.learning_rate": float("nan")}, f"search.training.learning_rate: nan; allowed: {RATE}"),
    ({"search.training.learning_rate": float("inf")}, f"search.training.learning_rate: inf; allowed: {RATE}"),
    (
        {"search.given.genotypes": ['{"normal": 3}']},
        'search.given.genotypes.0: "{\\"normal\\": 3}"; allowed: a genotype in one line of JSON, as summary.csv has it',
    ),
    ({"search.training.learning_rate": 1e39}, f"search.training.learning_rate: 1e+39; allowed: {RATE}, at most 1e+30"),
    ({"retrain.training.weight_decay": 1e39}, "retrain.training.weight_decay: 1e+39; allowed: a finite number"),
    ({"data.watch": ...}, "data.watch: missing; allowed: a section with the keys source, target"),
    ({"data.watch": {"other": "x"}}, 'data.watch.other: "other"; allowed: source, target'),
    ({"data.watch": {"target": 3}}, "data.watch.target: 3; allowed: text"),
    ({"study.imbalance_factors": ["long"]}, "study.imbalance_factors.0"),
    ({"study.retrain_seeds": [-1]}, "study.retrain_seeds.0: -1; allowed: an integer at least 0"),
    ({"study.seeds": [-1]}, "study.seeds.0: -1; allowed: an integer at least 0"),
    ({"study.seeds": [None]}, "study.seeds.0: null; allowed: an integer at least 0"),
    ({"study.methods": ["../darts"]}, f'study.methods.0: "../darts"; allowed: {METHODS}'),
    ({"study.methods": ["darts", "enas"]}, f'study.methods.1: "enas"; allowed: {METHODS}'),
    ({"study.imbalance_factors": ["30"]}, 'study.imbalance_factors.0: "30"; allowed: an integer at least 1'),
    ({"study.imbalance_factors": [30, 0.5]}, "study.imbalance_factors.1: 0.5; allowed: an integer at least 1"),
    ({"search.bilevel.architecture_betas": [0.5, 1.0]}, f"search.bilevel.architecture_betas.1: 1.0; allowed: {SHARE}"),
    (
        {"retrain.training.schedule": {"name": "steps", "at": [0.9, 0.8], "factor": 0.1}},
        "retrain.training.schedule.at: [0.9, 0.8]; allowed: a list in ascending order",
    ),
    (
        {"retrain.training.schedule": {"name": "steps", "at": [160], "factor": 0.1}},
        "retrain.training.schedule.at.0: 160; allowed: a finite number above 0, below 1",
    ),
    (
        {"retrain.training.nesterov": True, "retrain.training.momentum": 0.0},
        "retrain.training.nesterov: true; allowed: false where momentum is 0",
    ),
    # keys that are unknown
    ({"serach": {"a": 3}}, 'serach: unknown key with value {"a": 3}; allowed: study, runtime, data'),
    (
        {"search.enas": {}},
        "search.enas: unknown key with value {}; allowed: training, augment_architecture_half, bilevel, bbn",
    ),
    ({"search.training.epoch": 3}, "search.training.epoch: unknown key with value 3; allowed: epochs, batch_size"),
    ({"search.resnet32.epochs": 3}, "search.resnet32.epochs: unknown key with value 3; allowed: no key"),
    ({"retrain.loss.gamma": 1.0}, "retrain.loss.gamma: unknown key with value 1.0; allowed: name"),
    ({"data.target.alphabet": "all"}, 'data.target.alphabet: unknown key with value "all"; allowed: name, '),
    # keys that are missing
    ({"derive": ...}, "derive: missing; allowed: a section with the keys epoch"),
    ({"search.bbn": ...}, "search.bbn: missing; allowed: a section with the keys mixing, mix"),
    ({"adapt.training.epochs": ...}, "adapt.training.epochs: missing; allowed: an integer at least 1"),
    ({"adapt.method": ...}, "adapt.method: missing; allowed: crt, label_over_smooth, lws"),
    ({"retrain.loss": {}}, "retrain.loss.name: missing; allowed: balanced_softmax"),
    ({"data.target.kind": ...}, "data.target.kind: missing; allowed: cifar10"),
    ({"search.bbn.mixing.schedule": ...}, "search.bbn.mixing.schedule: missing; allowed: linear"),
    ({"pretrain.single_path": {"epochs": 1}}, f"pretrain.single_path.learning_rate: missing; allowed: {RATE}"),
    # sections that take one of several shapes
    (
        {"pretrain.single_path": {"epochs": 0, "learning_rate": 0.02}},
        "pretrain.single_path.epochs: 0; allowed: an integer at least 1",
    ),
    ({"retrain.loss": {"name": "focal"}}, "retrain.loss.gamma: missing; allowed: a finite number at least 0"),
    ({"retrain.loss": {"name": "focal", "gamma": -0.1}}, "retrain.loss.gamma: -0.1; allowed: a finite number"),
    ({"retrain.loss": {"name": "ldam", "margin": 0.0, "scale": 30.0}}, f"retrain.loss.margin: 0.0; allowed: {RATE}"),
    ({"retrain.loss": {"name": "ldam", "margin": 0.5, "scale": "x"}}, f'retrain.loss.scale: "x"; allowed: {RATE}'),
    (
        {"retrain.loss": {"name": "logit_adjustment", "tau": -1.0}},
        "retrain.loss.tau: -1.0; allowed: a finite number at least 0",
    ),
    (
        {"retrain.reweighting": {"when": "always", "beta": 1.0, "divided_by": "weights"}},
        f"retrain.reweighting.beta: 1.0; allowed: {SHARE}",
    ),
    (
        {"retrain.reweighting": {"when": "never", "beta": 0.9}},
        "retrain.reweighting.beta: unknown key with value 0.9; allowed: when",
    ),
    ({"retrain.branches": {"name": "two"}}, "retrain.branches.mixing: missing; allowed: a section with schedule"),
    (
        {"retrain.augmentation.image_mixing": {"name": "mosaic", "alpha": 1.0}},
        'retrain.augmentation.image_mixing.name: "mosaic"; allowed: mixup, cutmix',
    ),
    (
        {"retrain.augmentation.rand_augment": {"operations": 1, "magnitude": 31}},
        "retrain.augmentation.rand_augment.magnitude: 31; allowed: an integer at least 0, at most 30",
    ),
    ({"adapt": {"method": "tau_norm", "tau": 2.1}}, "adapt.tau: 2.1; allowed: a finite number at least 0, at most 2"),
    (
        {"search.bbn_hls.backbone": {"schedule": "polynomial", "power": 0.0}},
        f"search.bbn_hls.backbone.power: 0.0; allowed: {RATE}",
    ),
    (
        {"search.bbn.mixing": {"schedule": "constant", "time": "start", "ratio": 1.5}},
        "search.bbn.mixing.ratio: 1.5; allowed: a finite number at least 0, at most 1",
    ),
    (
        {"data.target": {"kind": "cifar10", "name": "c", "root": None, "url": "ftp://a", "sha256": None}},
        'data.target.url: "ftp://a"; allowed: text matching ^https?://',
    ),
    # one value by another
    (evolution(population=100), "search.imb_nas.candidates.population: 100; allowed: at most count (50)"),
    (evolution(tournament=9), "search.imb_nas.candidates.tournament: 9; allowed: at most population (8)"),
    (
        {"retrain.network.channels": None},
        "retrain.network.parameters: null; allowed: a number, or else a number as channels",
    ),
    (
        {"retrain.network.channels": None, "retrain.network.parameters": 999},
        "retrain.network.parameters: 999; allowed: an integer at least 1000",
    ),
]


@pytest.mark.parametrize(("changes", "said"), OTHER_MISTAKES, ids=lambda part: part if isinstance(part, str) else "")
def test_any_other_mistake_is_one_line(complaints, changes, said):
    (line,) = complaints(changes)
    assert line.startswith(said)


def test_every_mistake_has_its_line(complaints):
    lines = complaints({"search.training.epochs": 0, "adapt.beta": 2, "retrain.training.flip": 1})
    keys = [line.split(":")[0] for line in lines]
    assert keys == ["search.training.epochs", "retrain.training.flip", "adapt.beta"]


def test_a_long_value_is_cut(complaints):
    (line,) = complaints({"runtime.device": "x" * 1000})
    assert line.startswith('runtime.device: "xxx') and "...; allowed: text" in line and len(line) < 200


@pytest.mark.parametrize("document", [None, 3, [1, 2], "text"])
def test_no_sections_at_all_are_one_line(document):
    with pytest.raises(UserError) as error:
        checked_params(document, "params.yaml")
    assert str(error.value).startswith(f"params.yaml: {json.dumps(document)}; allowed: the sections study, runtime")


def test_the_first_stage_says_it_in_one_line_and_touches_nothing(tmp_path):
    document = yaml.safe_load((ROOT / "presets" / "default.yaml").read_text())
    document["adapt"]["beta"] = 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [sys.executable, "-m", "stages.validate"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "params.yaml: adapt.beta: 2; allowed: a finite number at least 0, below 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
