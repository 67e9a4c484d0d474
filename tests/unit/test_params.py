"""Mistakes in params.yaml: one line each, with the key, the value and what is allowed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.validate import check
from tailnas.errors import UserError
from tailnas.params import load_params

REPOSITORY = Path(__file__).parents[2]
MISSING = ...

EVOLUTION = {"search.candidate_source": "evolution", "search.candidates": 50, "search.population": 8}


def edited(changes: dict[str, Any]) -> dict[str, Any]:
    """params.yaml with dotted keys set, or taken away where the value is MISSING."""
    document = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for key, value in changes.items():
        *sections, last = key.split(".")
        node = document
        for section in sections:
            node = node[section]
        if value is MISSING:
            del node[last]
        else:
            node[last] = value
    return document


@pytest.fixture
def complaint(tmp_path: Path) -> Callable[[str], str]:
    """What is said of a text in place of params.yaml."""

    def complain(text: str) -> str:
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as error:
            check(load_params(path))
        return str(error.value)

    return complain


MISTAKES = [
    # wrong type
    ({"search.epochs": "ten"}, "search.epochs", '"ten"'),
    ({"search.epochs": 2.5}, "search.epochs", "2.5"),
    ({"search.epochs": True}, "search.epochs", "true"),
    ({"retrain.learning_rate": "1e-2x"}, "retrain.learning_rate", '"1e-2x"'),
    ({"retrain.flip": "no"}, "retrain.flip", '"no"'),
    ({"search.architecture_betas": 0.5}, "search.architecture_betas", "0.5"),
    ({"search.architecture_betas": [0.5]}, "search.architecture_betas", "[0.5]"),
    # unknown and missing keys and sections
    ({"search.epoch": 3}, "search.epoch", "3"),
    ({"serach": {"epochs": 3}}, "serach", "epochs"),
    ({"adapt.epochs": MISSING}, "adapt.epochs", "missing"),
    ({"derive": MISSING}, "derive", "missing"),
    ({"derive": None}, "derive", "null"),
    ({"study": None}, "study", "null"),
    ({"data.target": None}, "data.target", "null"),
    ({"evaluate": []}, "evaluate", "[]"),
    # out of range, not a number
    ({"search.epochs": 0}, "search.epochs", "0"),
    ({"search.learning_rate": -0.1}, "search.learning_rate", "-0.1"),
    ({"search.learning_rate": float("nan")}, "search.learning_rate", "nan"),
    ({"search.learning_rate": float("inf")}, "search.learning_rate", "inf"),
    ({"search.momentum": 1.0}, "search.momentum", "1.0"),
    ({"adapt.beta": 1}, "adapt.beta", "1"),
    ({"runtime.threads": 0}, "runtime.threads", "0"),
    ({"runtime.device": "gpu"}, "runtime.device", '"gpu"'),
    ({"search.mixing_constant": 1.5}, "search.mixing_constant", "1.5"),
    ({"search.mixing_schedule": "quadratic"}, "search.mixing_schedule", '"quadratic"'),
    ({"data.image_size": 18}, "data.image_size", "18"),
    ({"data.image_size": 12}, "data.image_size", "12"),
    ({"data.channels": 2}, "data.channels", "2"),
    ({"space.cells": 2}, "space.cells", "2"),
    # the study's lists
    ({"study.seeds": []}, "study.seeds", "[]"),
    ({"study.seeds": 0}, "study.seeds", "0"),
    ({"study.seeds": [0, 0]}, "study.seeds", "[0, 0]"),
    ({"study.seeds": [-1]}, "study.seeds.0", "-1"),
    ({"study.seeds": [None]}, "study.seeds.0", "null"),
    ({"study.methods": "darts"}, "study.methods", '"darts"'),
    ({"study.methods": []}, "study.methods", "[]"),
    ({"study.methods": ["darts", "darts"]}, "study.methods", '["darts", "darts"]'),
    ({"study.methods": ["../darts"]}, "study.methods.0", '"../darts"'),
    ({"study.imbalance_factors": [0.5]}, "study.imbalance_factors.0", "0.5"),
    ({"study.imbalance_factors": ["30"]}, "study.imbalance_factors.0", '"30"'),
    ({"study.imbalance_factors": [30, 30.0]}, "study.imbalance_factors", "[30, 30.0]"),
    ({"study.imbalance_factors": [float("inf")]}, "study.imbalance_factors.0", "inf"),
    # data sets
    ({"data.target.kind": "imagenet"}, "data.target.kind", '"imagenet"'),
    ({"data.target.kind": MISSING}, "data.target.kind", "missing"),
    ({"data.target.name": "a/b"}, "data.target.name", '"a/b"'),
    ({"data.target.name": ".."}, "data.target.name", '".."'),
    ({"data.target.name": "glyphs"}, "data.target.name", "glyphs"),
    ({"data.target.test_per_class": 171}, "data.target.test_per_class", "171"),
    ({"data.target.alphabet": "letters"}, "data.target.alphabet", '"letters"'),
    # combinations
    ({"study.imbalance_factors": [200]}, "study.imbalance_factors", "200"),
    ({"split.n_max": 150}, "split.n_max", "150"),
    ({"derive.epoch": 10_000}, "derive.epoch", "10000"),
    ({"search.learning_rate_min": 1.0}, "search.learning_rate_min", "1.0"),
    ({"pretrain.single_path_learning_rate": 0.0005}, "pretrain.learning_rate_min", "0.001"),
    ({"search.precision": "bf16", "runtime.device": "cpu"}, "search.precision", "bf16"),
    ({"search.freeze_backbone": True, "search.initialisation": "scratch"}, "search.freeze_backbone", "true"),
    ({"study.methods": ["imb_nas", "random"]}, "pretrain.single_path_epochs", "0"),
    (
        {"study.methods": ["imb_nas"], "search.adaptation": "scratch", **EVOLUTION, "search.population": 100},
        "search.population",
        "100",
    ),
    (
        {"study.methods": ["imb_nas"], "search.adaptation": "scratch", **EVOLUTION, "search.tournament": 9},
        "search.tournament",
        "9",
    ),
    ({"retrain.auxiliary_weight": 0.4}, "retrain.auxiliary_weight", "0.4"),
    ({"retrain.crop_padding": 16}, "retrain.crop_padding", "16"),
]


@pytest.mark.parametrize(("changes", "key", "value"), MISTAKES, ids=lambda part: str(part)[:60])
def test_a_mistake_is_one_line_with_key_value_and_what_is_allowed(complaint, changes, key, value):
    message = complaint(yaml.safe_dump(edited(changes), allow_unicode=True))
    lines = [line for line in message.splitlines() if key in line]
    assert len(lines) == 1, message
    (line,) = lines
    assert value in line
    assert "allowed" in line
    assert len(message.splitlines()) == 1, "no other key is blamed"


TEXTS = {
    "empty": "",
    "a scalar": "3",
    "a list": "[1, 2]",
    "not closed": "study: {methods: [darts",
    "a tab": "study:\n\tmethods: [darts]",
    "a key twice": "study: {methods: [darts]}\nstudy: {methods: [bbn]}",
    "a key that is no text": "1: 2",
    "a Python object": "!!python/object/apply:os.getcwd []",
    "a control character": "study: \x07",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_yaml_of_ours_is_one_line(complaint, text):
    message = complaint(text)
    assert len(message.splitlines()) == 1, message
    assert "params.yaml" in message
    assert "allowed" in message


def test_every_mistake_has_its_line(complaint):
    message = complaint(yaml.safe_dump(edited({"search.epochs": 0, "adapt.beta": 2, "retrain.flip": 1})))
    assert [line.split(": ")[1] for line in message.splitlines()] == ["search.epochs", "retrain.flip", "adapt.beta"]


@pytest.mark.parametrize("text", ["1e-2", "1.0e-2", "0.01", ".01", "+1e-2"])
def test_numbers_read_as_dvc_reads_them(tmp_path, text):
    path = tmp_path / "params.yaml"
    document = yaml.safe_dump(edited({"search.architecture_learning_rate": 12345.5}))
    path.write_text(document.replace("12345.5", text))
    assert load_params(path).search.architecture_learning_rate == 0.01


def test_the_first_stage_says_it_in_one_line_and_touches_nothing(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(edited({"adapt.beta": 2})))
    done = subprocess.run(
        [sys.executable, "-m", "stages.validate"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "adapt.beta: 2; allowed:" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
