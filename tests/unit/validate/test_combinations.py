"""Mistakes that need more than one section, or the data, to see."""

import resource
from pathlib import Path

import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.genotype.genotype import Genotype
from tailnas.genotype.pretrained import Pretrained
from tailnas.validate.combinations import warnings
from tailnas.validate.feasible import require_feasible

BF16 = "'bf16' with runtime.device 'cpu'; allowed: 'float32' on a CPU"
PADDING = "16; allowed: less than data.image_size (16)"
TWO = {"retrain.branches": {"name": "two", "mixing": {"schedule": "parabolic", "time": "start"}}}
GLMC = {
    "retrain.branches": {
        "name": "glmc",
        "alpha": 1.0,
        "partner_exponent": 0.8,
        "label_exponent": 1.0,
        "consistency": 10.0,
        "projection": 128,
    }
}
CONTRAST = {"retrain.branches": {"name": "proco", "weight": 1.0, "temperature": 0.1, "hidden": 512, "projection": 128}}
LOGITS = {"retrain.loss": {"name": "logit_adjustment", "tau": 1.0}}
DEFERRED = {"when": "deferred", "beta": 0.9, "divided_by": "weights"}
FROZEN_GENOTYPE = Genotype(
    network="frozen",
    pretrained=Pretrained("torchvision", "resnet18", "w.pth", 64 * "0", 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
).to_line()
ALWAYS = DEFERRED | {"when": "always"}
SCRATCH = {"search.imb_nas.adaptation": {"name": "scratch", "beta": 0.9}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.target.name": "glyphs"}, "data.target.name: 'glyphs' is also data.source.name; allowed: two different"),
        (
            {"split.profile": "natural", "study.imbalance_factors": [10, 30]},
            "study.imbalance_factors: [10, 30] with split.profile 'natural'; allowed: [natural], since the data keeps",
        ),
        (
            {"study.imbalance_factors": [10, "natural"]},
            "study.imbalance_factors: [10, \"natural\"] with split.profile 'exp'; allowed: numbers",
        ),
        *[
            ({"runtime.device": "cpu", f"{stage}.training.precision": "bf16"}, f"{stage}.training.precision: {BF16}")
            for stage in ("pretrain", "search", "retrain")
        ],
        *[
            ({f"{stage}.training.crop_padding": 16}, f"{stage}.training.crop_padding: {PADDING}")
            for stage in ("pretrain", "search", "retrain")
        ],
        (
            {"pretrain.single_path": {"epochs": 1, "learning_rate": 0.0005}},
            "pretrain.single_path.learning_rate: 0.0005; allowed: at least pretrain.training.schedule.minimum (0.001)",
        ),
        ({"derive.epoch": 8}, "derive.epoch: 8; allowed: 'last' or 1 to search.training.epochs (7)"),
        (
            {"search.training.nesterov": True, "search.bilevel.order": "second"},
            "search.training.nesterov: true with search.bilevel.order 'second'; allowed: false",
        ),
        (
            {"search.bilevel.freeze_backbone": True, "search.bilevel.initialisation": "scratch"},
            "search.bilevel.freeze_backbone: true with search.bilevel.initialisation 'scratch'; allowed: true with",
        ),
        (
            {"study.methods": ["pc_darts"], "space.channels": 6},
            "search.pc_darts.partial: 4; allowed: a divisor of space.channels (6)",
        ),
        (
            {"study.methods": ["pc_darts"], "search.bilevel.freeze_backbone": True},
            "search.bilevel.freeze_backbone: true with study.methods entry 'pc_darts'; allowed: false",
        ),
        (
            {"study.methods": ["random", "imb_nas"]},
            "pretrain.single_path: null with study.methods entry 'imb_nas'; allowed: a section",
        ),
        (
            {**TWO, "retrain.loss": {"name": "ldam", "margin": 0.5, "scale": 30.0}},
            'retrain.loss.name: "ldam" with retrain.branches.name \'two\'; allowed: "cross_entropy"',
        ),
        (
            {**TWO, "retrain.reweighting": DEFERRED},
            'retrain.reweighting.when: "deferred" with retrain.branches.name \'two\'; allowed: "never"',
        ),
        (
            {**TWO, "data.image_size": 32, "retrain.network.auxiliary_weight": 0.4},
            "retrain.network.auxiliary_weight: 0.4 with retrain.branches.name 'two'; allowed: 0",
        ),
        (
            {**GLMC, "retrain.loss": {"name": "balanced_softmax"}},
            'retrain.loss.name: "balanced_softmax" with retrain.branches.name \'glmc\'; allowed: "cross_entropy"',
        ),
        (
            {**GLMC, "retrain.augmentation.image_mixing": {"name": "mixup", "alpha": 1.0}},
            "retrain.augmentation.image_mixing: \"mixup\" with retrain.branches.name 'glmc'; allowed: null",
        ),
        (
            {**CONTRAST, "retrain.augmentation.image_mixing": {"name": "mixup", "alpha": 1.0}},
            "retrain.augmentation.image_mixing: \"mixup\" with retrain.branches.name 'proco'; allowed: null",
        ),
        (
            {**CONTRAST, "adapt": {"method": "tau_norm", "tau": 0.5}},
            "adapt.tau: 0.5 with retrain.branches.name: 'proco' corrects for class sizes twice; allowed: null",
        ),
        *[
            (
                {"retrain.training.epochs": epochs, "retrain.reweighting": DEFERRED},
                f"retrain.reweighting.when: 'deferred' with retrain.training.epochs {epochs}, where it never begins; ",
            )
            for epochs in (1, 4)
        ],
        (
            {"retrain.loss": {"name": "balanced_softmax"}, "retrain.branches.sampler": "class_balanced"},
            "retrain.loss.name: 'balanced_softmax' with retrain.branches.sampler: 'class_balanced' corrects for class "
            "sizes twice; allowed: one of them",
        ),
        (
            {
                "retrain.loss": {"name": "logit_adjustment", "tau": 1.0},
                "retrain.reweighting": ALWAYS,
            },
            "retrain.loss.name: 'logit_adjustment' with retrain.reweighting.when: 'always' corrects",
        ),
        (
            {"retrain.branches.sampler": "reversed", "retrain.reweighting": DEFERRED},
            "retrain.branches.sampler: 'reversed' with retrain.reweighting.when: 'deferred' corrects",
        ),
        (
            {"study.methods": ["frozen"], "search.frozen.weights": "w.pth"},
            "search.frozen.sha256: null with study.methods entry 'frozen'; allowed: those of a local file",
        ),
        (
            {**TWO, "study.methods": ["frozen"], "search.frozen.weights": "w.pth", "search.frozen.sha256": 64 * "0"},
            "retrain.branches.name: 'two' with study.methods entry 'frozen'; allowed: any other",
        ),
        (
            {**TWO, "study.methods": ["given"], "search.given.genotypes": [FROZEN_GENOTYPE]},
            "retrain.branches.name: 'two' with search.given.genotypes entry",
        ),
        (
            {"study.methods": ["ssnas"], "search.ssnas.crop_padding": 16},
            "search.ssnas.crop_padding: 16; allowed: less than data.image_size (16)",
        ),
        (
            {"study.methods": ["ssf_nas"], "search.ssf_nas.crop_padding": 0, "search.training.flip": False},
            "search.ssf_nas.crop_padding: 0 with search.training.flip false makes both views the same",
        ),
        *[
            (
                {
                    "study.methods": ["pc_darts"],
                    "search.pc_darts.branches": {
                        "name": "bbn",
                        "mixing": {"schedule": "constant", "time": "midpoint", "ratio": ratio},
                        "mix": "logits",
                    },
                },
                f"search.pc_darts.branches.mixing.ratio: {ratio:g} never trains one of the branches",
            )
            for ratio in (0.0, 1.0)
        ],
        *[
            (
                {**correction, "adapt": {"method": "tau_norm", "tau": 0.5}},
                f"adapt.tau: 0.5 with retrain.{said} corrects for class sizes twice; allowed: null",
            )
            for correction, said in [
                (LOGITS, "loss.name: 'logit_adjustment'"),
                ({"retrain.branches.sampler": "square_root"}, "branches.sampler: 'square_root'"),
                ({"retrain.reweighting": ALWAYS}, "reweighting.when: 'always'"),
                (TWO, "branches.name: 'two'"),
            ]
        ],
        (
            {"retrain.branches": {"name": "two", "mixing": {"schedule": "constant", "time": "start", "ratio": 1.0}}},
            "retrain.branches.mixing.ratio: 1 never trains one of the branches; allowed: between 0 and 1",
        ),
        (
            {
                "study.methods": ["bbn"],
                "search.bbn.mixing": {"schedule": "constant", "time": "start", "ratio": 0.0},
            },
            "search.bbn.mixing.ratio: 0 never trains one of the branches; allowed: between 0 and 1",
        ),
        (
            {"retrain.network.channels": None, "retrain.network.parameters": 1000, "retrain.network.cells": 100},
            "retrain.network.parameters: 1000 with retrain.network.cells 100 and study.methods entry 'darts'; "
            "allowed: at least 3140",
        ),
        ({"retrain.augmentation.cutout": 17}, "retrain.augmentation.cutout: 17; allowed: at most data.image_size (16)"),
        (
            {"retrain.network.auxiliary_weight": 0.4},
            "retrain.network.auxiliary_weight: 0.4 with data.image_size 16; allowed: 0",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_combination_is_one_line(complaints, changes, said):
    (line,) = complaints(changes)
    assert line.startswith(said)


@pytest.mark.parametrize(
    "changes",
    [
        {"split.profile": "natural", "study.imbalance_factors": ["natural"]},
        {"search.bilevel.freeze_backbone": True},
        {"runtime.device": "cuda", "search.training.precision": "bf16"},
        {"study.methods": ["imb_nas"], **SCRATCH},
        {"study.methods": ["imb_nas"], "pretrain.single_path": {"epochs": 1, "learning_rate": 0.001}},
        {"retrain.network.channels": None, "retrain.network.parameters": 5000},
        {"data.image_size": 32, "retrain.network.auxiliary_weight": 0.4, "retrain.augmentation.cutout": 32},
        {"retrain.training.epochs": 5, "retrain.reweighting": DEFERRED},
        {
            "retrain.loss": {"name": "ldam", "margin": 0.5, "scale": 30.0},
            "retrain.reweighting": DEFERRED,
        },
        {"retrain.loss": {"name": "focal", "gamma": 1.0}, "retrain.reweighting": ALWAYS},
        {"retrain.loss": {"name": "balanced_softmax"}},
        {"retrain.branches.sampler": "class_balanced"},
        TWO,
        GLMC,
    ],
    ids=str,
)
def test_what_goes_together(load, changes):
    load(changes)


TRAINING = read_yaml(Path(__file__).parents[3] / "presets/default.yaml")["adapt"]["training"]
SAMPLED = {"sampler": "class_balanced", "training": TRAINING}
HEADS = {"crt": SAMPLED, "lws": SAMPLED, "none": {}, "tau_norm": {"tau": None}}
HEADS |= {"reweight": {"beta": 0.99, "training": TRAINING}}
CORRECTIONS = {
    "retrain.loss.name: 'balanced_softmax'": {"retrain.loss": {"name": "balanced_softmax"}},
    "retrain.loss.name: 'logit_adjustment'": LOGITS,
    "retrain.branches.sampler: 'reversed'": {"retrain.branches.sampler": "reversed"},
    "retrain.branches.name: 'two'": TWO,
    "retrain.reweighting.when: 'deferred'": {"retrain.reweighting": DEFERRED},
    "": {"retrain.loss": {"name": "ldam", "margin": 0.5, "scale": 30.0}},
}


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_is_corrected_once_more_is_warned_of(load, head, correction):
    lines = list(warnings(load({**CORRECTIONS[correction], "adapt": {"method": head, **HEADS[head]}})))
    once_more = [f"adapt.method: {head!r} corrects the head once more after {correction}; 'none' keeps it, "]
    thrown_away = [f"adapt.method: 'crt' makes another head, so that {correction} is of no effect on the adapted"]
    expected = once_more if correction and head in ("lws", "reweight", "tau_norm") else []
    if head == "crt" and "logit_adjustment" in correction:
        expected = thrown_away
    assert len(lines) == len(expected) and all(map(str.startswith, lines, expected)), lines


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"study.methods": ["random", "resnet32"]}, ['study.methods: ["random", "resnet32"] start from no super-net']),
        ({"study.methods": ["darts"], "search.bilevel.initialisation": "scratch"}, ['study.methods: ["darts"] start']),
        ({"pretrain.single_path": {"epochs": 1, "learning_rate": 0.01}}, ["pretrain.single_path: trained, but no "]),
        ({"study.methods": ["r_darts"]}, ["search.r_darts.window: 5 with search.training.epochs 7 never ends"]),
        ({"study.methods": ["r_darts"], "search.training.epochs": 10}, []),
        ({"adapt.beta": 0}, ["adapt.beta: 0 weighs every class alike"]),
        (
            {"retrain.reweighting": ALWAYS | {"beta": 0.0}, "adapt": {"method": "none"}},
            ["retrain.reweighting"],
        ),
        ({"study.methods": ["darts_reweight"], "search.darts_reweight.beta": 0.0}, ["search.darts_reweight.beta: 0"]),
        (
            {"retrain.network.channels": None, "retrain.network.parameters": 3000},
            ["retrain.network.parameters: 3000: a genotype of wide separable convolutions alone has 3387 at"],
        ),
        ({"retrain.network.channels": None, "retrain.network.parameters": 3300}, []),
    ],
    ids=str,
)
def test_work_for_nothing_is_warned_of(load, changes, said):
    lines = list(warnings(load(changes)))
    assert len(lines) == len(said) and all(map(str.startswith, lines, said)), lines


def digits(name):
    return {"name": name, "kind": "digits", "test_per_class": 5, "seed": 0 if name == "a" else 1}


def cifar(name, kind):
    return {"name": name, "kind": kind, "root": None, "url": None, "sha256": None}


def folder(name, path):
    own = {"test_per_class": 5, "group": None, "unreadable": "refuse", "seed": 0}
    return {"name": name, "kind": "folder", "path": path, **own}


def glyphs(name):
    return {"name": name, "kind": "glyphs", "alphabet": "all", "train_per_class": 8, "test_per_class": 2, "seed": 0}


def own(source, target):
    """What data.watch has to be for them."""
    folders = {role: data["path"] for role, data in {"source": source, "target": target}.items() if "path" in data}
    return {role: str(Path(path)) for role, path in folders.items()}


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ({}, 'data.watch.target: null; allowed: "images", the folder of data.target.path'),
        ({"target": "others"}, 'data.watch.target: "others"; allowed: "images", the folder of data.target.path'),
        (
            {"target": "images", "source": "images"},
            'data.watch.source: "images"; allowed: no entry, since data.source ',
        ),
    ],
)
def test_a_folder_of_the_users_own_is_watched(complaints, watch, said):
    (line,) = complaints({"data.source": glyphs("a"), "data.target": folder("b", "./images/"), "data.watch": watch})
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("source", "target", "key"),
    [
        (digits("a"), digits("b"), "kind: 'digits' is"),
        (cifar("a", "cifar10"), cifar("b", "cifar10"), "kind: 'cifar10' is"),
        (cifar("a", "cifar100"), cifar("b", "cifar100"), "kind: 'cifar100' is"),
        (folder("a", "images"), folder("b", "./images/"), "path: './images/' holds"),
        (folder("a", "images"), folder("b", "images/train"), "path: 'images/train' holds"),
        (folder("a", "images/train"), folder("b", "images"), "path: 'images' holds"),
    ],
)
def test_source_and_target_that_share_images(complaints, source, target, key):
    (line,) = complaints({"data.source": source, "data.target": target, "data.watch": own(source, target)})
    assert line == f"data.target.{key} the same images as data.source; allowed: source and target that share no image"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (cifar("a", "cifar10"), cifar("b", "cifar100")),
        (folder("a", "images"), folder("b", "images-2")),
        (glyphs("a"), glyphs("b")),
    ],
)
def test_source_and_target_that_share_none(load, source, target):
    changes = {"data.source": source, "data.target": target, "data.watch": own(source, target)}
    assert load(changes).data.target.settings.name == "b"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study.imbalance_factors": [10, 200]}, "study.imbalance_factors: 200 leaves class '[0-9]' with 1 image"),
        ({"split.n_max": 150}, "split.n_max: 150 asks for 150 images of class '[0-9]', which has 1[0-9][0-9] for"),
        ({"data.target": glyphs("b")}, "study.imbalance_factors: 30 leaves class '[A-Z0-9]' with 0 image"),
        (
            {"data.source": glyphs("a") | {"train_per_class": 100_000}, "data.image_size": 1024, "data.channels": 3},
            r"params.yaml: data.source: 10,547.1 GiB of images with data.image_size 1024",
        ),
        ({"data.source": folder("a", "none"), "data.watch": {"source": "none"}}, "data: a: path: none: no such folder"),
        ({"data.target": folder("b", "none"), "data.watch": {"target": "none"}}, "data: b: path: none: no such folder"),
        (
            {"data.source": cifar("a", "cifar10") | {"root": "none"}, "data.watch": {"source": "none"}},
            "data: a: root: none: no such folder",
        ),
    ],
)
def test_data_that_cannot_be_split_as_asked(load, changes, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"^{said}.*; allowed: ") as error:
        require_feasible(load(changes))
    assert "\n" not in str(error.value)


HUGE = {"space.channels": 1024, "space.cells": 20}
WIDE = {"retrain.network.channels": 1024, "retrain.network.cells": 100}
LARGE = {"data.image_size": 256, "data.source": glyphs("a") | {"train_per_class": 200}}
TOO_LARGE = [
    (HUGE, "space.channels: 1024 with space.cells 20: the super-network"),
    (
        WIDE | {"study.methods": ["random"]},
        "retrain.network.channels: 1024 with retrain.network.cells 100: the network",
    ),
    (
        {"study.methods": ["ssnas"], "search.ssnas.projector": 65536},
        "search.ssnas.projector: 65536: the projector",
    ),
    (
        {"retrain.branches": CONTRAST["retrain.branches"] | {"hidden": 65536, "projection": 65536}},
        "retrain.branches.hidden: 65536 with retrain.branches.projection 65536: the projector",
    ),
    (
        LARGE | {"runtime.device": "cpu", "pretrain.training.batch_size": 65536},
        "pretrain.training.batch_size: 7200 with data.image_size 256, space.channels 4, space.cells 3: a training step",
    ),
]


@pytest.mark.parametrize(("changes", "said"), TOO_LARGE)
def test_what_memory_cannot_hold_is_refused_before_anything_is_computed(load, changes, said):
    """On a machine of 24 GiB, as a limit of the process says."""
    params = load(changes)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (24 * 2**30, before[1]))
    try:
        with pytest.raises(UserError) as error:
            require_feasible(params)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    line = str(error.value)
    assert line.startswith(f"params.yaml: {said} takes ") and " GiB at least; allowed: at most this machine's" in line


@pytest.mark.parametrize(
    ("method", "parameters", "said"),
    [
        ("resnet32", 8_000, r"such as [0-9]+ \(2, 4, 8 channels\) or [0-9]+ \(2, 5, 8 channels\)"),
        ("given", 8_000, "such as [0-9]+ "),
        ("resnet32", 25_000, None),
        ("darts_v2", 25_000, None),
    ],
)
def test_a_budget_that_a_published_genotype_cannot_meet_is_refused_before_any_search(load, method, parameters, said):
    budget = {"retrain.network.channels": None, "retrain.network.parameters": parameters}
    params = load({"study.methods": ["darts", method], **budget})
    if said is None:
        require_feasible(params)
    else:
        line = (
            rf"^params\.yaml: retrain\.network\.parameters: {parameters} .* study\.methods entry '{method}'; .*{said}"
        )
        with pytest.raises(UserError, match=line):
            require_feasible(params)


def test_a_budget_that_is_too_small_for_the_classes_that_there_are(load):
    """Of 30 cells with pooling alone: two classes would fit within 5 %; the target has ten."""
    budget = {"retrain.network.channels": None, "retrain.network.parameters": 1000, "retrain.network.cells": 30}
    params = load(budget)
    with pytest.raises(UserError, match=r"^params\.yaml: retrain\.network\.parameters: .*; allowed: at least [0-9]+$"):
        require_feasible(params)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search.frozen.weights": "missing.pth"}, "search.frozen.weights: missing.pth: no such file"),
        ({"search.frozen.architecture": "resnet99"}, "search.frozen.architecture: 'resnet99'"),
        ({"search.frozen.weights": __file__}, r"search\.frozen\.sha256"),
    ],
)
def test_weights_that_are_not_there_are_found_before_anything_is_computed(load, changes, said):
    frozen = {"study.methods": ["frozen"], "search.frozen.weights": "w.pth", "search.frozen.sha256": 64 * "0"}
    with pytest.raises(UserError, match=rf"^params\.yaml: {said}.*; allowed: "):
        require_feasible(load({**frozen, **changes}))


def test_fewer_features_than_equiangular_classes(load):
    few = {"study.methods": ["lt_darts"], "space.channels": 1, "data.target": glyphs("b") | {"alphabet": "all"}}
    with pytest.raises(UserError, match=r"space\.channels: 1, which gives 16 features for 36 equiangular classes"):
        require_feasible(load({**few, "study.imbalance_factors": [2]}))


@pytest.mark.parametrize("method", ["frozen", "given"])
def test_networks_of_a_size_of_their_own_have_no_budget(load, method):
    frozen = {"search.frozen.weights": "w.pth", "search.frozen.sha256": 64 * "0"} if method == "frozen" else {}
    load({"study.methods": [method], "retrain.network.channels": None, "retrain.network.parameters": 1000, **frozen})


@pytest.mark.parametrize(
    "changes",
    [{}, {"data.target": cifar("b", "cifar10")} | {"study.imbalance_factors": [200]}],
    ids=["own", "published"],
)
def test_data_that_can_be_split_as_asked(load, changes):
    require_feasible(load(changes))


def scarce(tmp_path, sizes, **changes):
    """A study of five folds on a folder with `sizes` images of each class."""
    for c, count in enumerate(sizes):
        (tmp_path / "images" / f"c{c}").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (tmp_path / "images" / f"c{c}" / f"{index}.png").write_bytes(b"")
    target = folder("b", "images") | {"test_per_class": None}
    natural = {"study.imbalance_factors": ["natural"], "split.profile": "natural", "study.seeds": [0, 1, 2, 3, 4]}
    return {"data.target": target, "data.watch": {"target": "images"}, "split.folds": 5, **natural, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"study.seeds": [0]},
            "study.seeds: [0] with split.folds 5; allowed: 5 of different remainders, such as [0, 1, ",
        ),
        ({"study.seeds": [0, 1, 2, 3, 8]}, "study.seeds: [0, 1, 2, 3, 8] with split.folds 5; allowed: "),
        (
            {"split.profile": "exp", "study.imbalance_factors": [10]},
            "split.folds: 5 with split.profile 'exp'; allowed: null, or profile 'natural'",
        ),
        (
            {"data.target": digits("b"), "data.watch": {}},
            "split.folds: 5 with data.target.kind 'digits'; allowed: null, since it has a test part",
        ),
    ],
)
def test_folds_that_do_not_fit(complaints, tmp_path, monkeypatch, changes, said):
    monkeypatch.chdir(tmp_path)
    (line,) = complaints(scarce(tmp_path, [4, 4], **changes))
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("sizes", "changes", "said"),
    [
        ([9, 2], {}, "split.profile: natural leaves class 'c1' with 1 image"),
        (
            [9, 9],
            {"data.target": folder("b", "images") | {"test_per_class": 1}},
            "params.yaml: split.folds: 5: data.target has a test part of 2 images; allowed: null, or data.target.test_",
        ),
        (
            [9, 9],
            {"split.folds": None},
            "params.yaml: data.target.test_per_class: null leaves no test image; allowed: a number, {fraction, ",
        ),
        (
            [9, 9],
            {
                "split.folds": None,
                "data.target": folder("b", "images") | {"test_per_class": {"fraction": 0, "least": 0}},
            },
            "params.yaml: data.target.test_per_class: {fraction: 0, least: 0} leaves no test image",
        ),
    ],
)
def test_data_that_leaves_no_image_to_test_or_to_train_on(load, tmp_path, monkeypatch, sizes, changes, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        require_feasible(load(scarce(tmp_path, sizes, **changes)))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "ten",
            'data.target.test_per_class: "ten"; allowed: an integer at least 1 or a section with the keys fraction',
        ),
        (0, "data.target.test_per_class: 0; allowed: an integer at least 1 or a section with the keys fraction, least"),
        ({"fraction": 2, "least": 0}, "data.target.test_per_class.fraction: 2; allowed: a finite number at least 0, "),
        ({"fraction": 0.5}, "data.target.test_per_class.least: missing; allowed: an integer at least 0"),
        (
            {"fraction": 0.5, "least": 0, "most": 1},
            "data.target.test_per_class.most: unknown key with value 1; allowed",
        ),
    ],
)
def test_a_wrong_test_part_is_one_line(complaints, value, said):
    target = folder("b", "images") | {"test_per_class": value}
    (line,) = complaints({"data.target": target, "data.watch": {"target": "images"}})
    assert line.startswith(said)


def test_few_images_that_folds_can_test(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_feasible(load(scarce(tmp_path, [9, 3])))


def test_a_group_is_a_regular_expression(complaints):
    target = folder("b", "images") | {"group": "(x"}
    (line,) = complaints({"data.target": target, "data.watch": {"target": "images"}})
    assert line.startswith('data.target.group: "(x"; allowed: a regular expression (')


def test_a_package_that_exports_need_is_asked_for_before_anything_runs(load, monkeypatch):
    monkeypatch.setattr("tailnas.export.settings.ONNX_PACKAGES", ("onnx_that_nobody_has",))
    require_feasible(load({"export.formats": ["torch_export"]}))
    with pytest.raises(
        UserError, match=r"^params\.yaml: export\.formats: 'onnx' needs onnx_that_nobody_has, .*; allowed: "
    ):
        require_feasible(load({"export.formats": ["onnx"]}))
