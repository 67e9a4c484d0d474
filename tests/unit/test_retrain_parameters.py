"""What params.yaml may say of retraining and head adaptation, and which data may be source and target."""

from pathlib import Path

import pytest
import yaml

from tailnas.errors import UserError
from tailnas.params import load_params

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "presets" / "smoke.yaml").read_text())


def load(folder, section="retrain", **changes):
    document = {**SMOKE, section: {**SMOKE[section], **changes}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    return load_params(folder / "params.yaml")


@pytest.mark.parametrize(
    "file", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda f: f.name
)
def test_committed_files_are_valid(file):
    load_params(file)


@pytest.mark.parametrize(("channels", "parameters"), [(4, 5000), (None, None)])
def test_exactly_one_of_channels_and_parameters(channels, parameters, tmp_path):
    with pytest.raises(UserError, match=r"retrain\.channels: .* allowed: null for exactly one of the two"):
        load(tmp_path, channels=channels, parameters=parameters)
    assert load(tmp_path, channels=None, parameters=5000).retrain.parameters == 5000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", "hinge"),
        ("sampler", "uniform"),
        ("image_mixing", "mosaic"),
        ("image_mixing_alpha", 0.0),
        ("cutout", -1),
        ("cutout", 17),
        ("rand_augment_operations", 11),
        ("rand_augment_magnitude", 31),
        ("drw", 1),
        ("beta", 1.0),
        ("focal_gamma", -0.1),
        ("ldam_margin", 0.0),
        ("ldam_scale", 0.0),
        ("logit_adjustment_tau", -1.0),
        ("parameters", 999),
    ],
)
def test_bounds_of_retrain(key, value, tmp_path):
    changes = {key: value} | ({"channels": None} if key == "parameters" else {})
    with pytest.raises(UserError, match=rf"retrain\.{key}: .*allowed: "):
        load(tmp_path, **changes)


@pytest.mark.parametrize(
    ("key", "value"), [("sampler", "reversed"), ("loss", "ldam"), ("drw", True), ("auxiliary_weight", 0.4)]
)
def test_two_branches_have_a_balance_of_their_own(key, value, tmp_path):
    with pytest.raises(UserError, match=rf"retrain\.{key}: .* with retrain\.branches 'two'; allowed: "):
        load(tmp_path, branches="two", **{key: value})
    assert load(tmp_path, branches="two").retrain.branches == "two"


@pytest.mark.parametrize(("key", "value"), [("method", "prune"), ("tau", 2.1), ("tau", -0.1), ("beta", 1.0)])
def test_bounds_of_adapt(key, value, tmp_path):
    with pytest.raises(UserError, match=rf"adapt\.{key}: .*allowed: "):
        load(tmp_path, "adapt", **{key: value})


def digits(name):
    return {"name": name, "kind": "digits", "test_per_class": 5, "seed": 0 if name == "a" else 1}


def cifar(name, kind):
    return {"name": name, "kind": kind, "root": None, "url": None, "sha256": None}


def folder(name, path):
    return {"name": name, "kind": "folder", "path": path, "test_per_class": 5, "seed": 0}


GLYPHS = {"kind": "glyphs", "alphabet": "all", "train_per_class": 8, "test_per_class": 2, "seed": 0}


@pytest.mark.parametrize(
    ("source", "target", "key"),
    [
        (digits("a"), digits("b"), "kind"),
        (cifar("a", "cifar10"), cifar("b", "cifar10"), "kind"),
        (cifar("a", "cifar100"), cifar("b", "cifar100"), "kind"),
        (folder("a", "images"), folder("b", "./images/"), "path"),
        (folder("a", "images"), folder("b", "images/train"), "path"),
        (folder("a", "images/train"), folder("b", "images"), "path"),
    ],
)
def test_source_and_target_that_share_images(source, target, key, tmp_path):
    with pytest.raises(UserError, match=rf"data\.target\.{key}: .*source and target that share no image"):
        load(tmp_path, "data", source=source, target=target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (cifar("a", "cifar10"), cifar("b", "cifar100")),
        (folder("a", "images"), folder("b", "images-2")),
        ({"name": "a", **GLYPHS}, {"name": "b", **GLYPHS}),
    ],
)
def test_source_and_target_that_share_none(source, target, tmp_path):
    assert load(tmp_path, "data", source=source, target=target).data.target.name == "b"


def test_too_small_a_class_is_named(tmp_path):
    from stages.validate import check

    glyphs = {"name": "b", **GLYPHS, "alphabet": "letters"}
    params = load(tmp_path, "data", target=glyphs)
    with pytest.raises(UserError, match=r"class '[A-Z]'"):
        check(params)
