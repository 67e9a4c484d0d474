"""Presets: differences to the default, each valid, each written whole by `make preset`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.feasible import require_feasible
from tailnas.validate.presets import load_preset, preset_file, preset_names, whole_document
from workflow.preset import preset_text, put_aside
from workflow.reference import SCHEMA

ROOT = Path(__file__).parents[3]
PRESETS = sorted(file.stem for file in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_for_the_pipeline_and_for_editors(name: str) -> None:
    require_feasible(load_preset(preset_file(name)))
    jsonschema.validate(whole_document(preset_file(name)), json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_is_whole_and_says_what_the_preset_says(name: str) -> None:
    text = preset_text(name)
    assert yaml.safe_load(text) == whole_document(preset_file(name))
    assert text.startswith("# yaml-language-server: $schema=docs/params.schema.json\n")
    assert "# One section per method" in text, "comments of the default are kept"
    assert max(map(len, text.splitlines())) <= 120


def test_the_committed_parameters_are_the_default() -> None:
    assert Path("params.yaml").read_text(encoding="utf-8") == preset_text("default")


def pairs(changes: Any, default: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, value in changes.items():
        below = default.get(name) if isinstance(default, dict) else None
        if isinstance(value, dict) and isinstance(below, dict) and value.keys() < below.keys():
            yield from pairs(value, below, f"{key}{name}.")
        else:
            yield f"{key}{name}", value, below


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "default"])
def test_a_preset_is_nothing_but_differences_and_its_head_ends_with_a_command(name: str) -> None:
    default = read_yaml(preset_file("default"))
    same = [key for key, value, below in pairs(read_yaml(preset_file(name)), default) if value == below]
    assert same == []
    head = preset_file(name).read_text(encoding="utf-8").split("\n\n")[0].split("\n")
    assert len(head) > 1 and re.search(
        rf"#   (make preset NAME={name} && |python -m benchmarks\.)", " ".join(head[-2:])
    )


def test_a_section_of_several_kinds_is_replaced_where_the_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "retrain:\n  loss: {name: focal, gamma: 2.0}\n"
        "search:\n  imb_nas:\n    candidates: {name: evolution, count: 8, population: 4, tournament: 2}\n"
        "    adaptation: {beta: 0.5}\n"
        "pretrain: {single_path: {epochs: 1, learning_rate: 0.1}}\n"
    )
    whole = whole_document(path)
    assert whole["retrain"]["loss"] == {"name": "focal", "gamma": 2.0}
    assert whole["search"]["imb_nas"]["candidates"] == {
        "name": "evolution",
        "count": 8,
        "population": 4,
        "tournament": 2,
    }
    assert whole["search"]["imb_nas"]["adaptation"] == {"name": "head", "paths": 8, "beta": 0.5}
    assert whole["pretrain"]["single_path"] == {"epochs": 1, "learning_rate": 0.1}
    assert whole["evaluate"] == read_yaml(preset_file("default"))["evaluate"]
    assert load_preset(path).retrain.loss.settings.gamma == 2.0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("retrain: {loss: {name: fokal}}", 'retrain.loss.name: "fokal"; allowed: balanced_softmax, '),
        ("retrain: {lose: 1}", "retrain.lose: unknown key with value 1; allowed: training, "),
        ("space: 3", "space: 3; allowed: a section with the keys channels, cells"),
        ("[1, 2]", "[1, 2]; allowed: the sections study, "),
    ],
)
def test_a_wrong_preset_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(UserError) as error:
        load_preset(path)
    assert str(error.value).startswith(f"{path}: {line}") and "\n" not in str(error.value)


def test_writing_keeps_what_was_there(tmp_path: Path) -> None:
    for name in ("tailnas", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "presets").mkdir()
    for name in ("default.yaml", "smoke.yaml"):
        shutil.copy(ROOT / "presets" / name, tmp_path / "presets")
    own = tmp_path / "params.yaml"
    own.write_text("mine: 1\n")

    def preset(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workflow.preset", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    refused = preset("../params")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert refused.stderr.endswith("allowed: default, smoke\n")
    assert own.read_text() == "mine: 1\n"
    assert preset("smoke").returncode == 0
    assert (tmp_path / "params.yaml.bak").read_text() == "mine: 1\n"
    assert own.read_text() == preset_text("smoke")
    assert preset("default").returncode == 0
    assert (tmp_path / "params.yaml.bak").read_text() == "mine: 1\n", "a preset is nobody's edit"
    for text, end in (("mine: 2\n", "1"), ("mine: 3\n", "2"), ("mine: 2\n", "1")):
        own.write_text(text)
        assert put_aside(own) == tmp_path / f"params.yaml.bak{end}"
    assert [(tmp_path / f"params.yaml.bak{end}").read_text()[6] for end in ("", "1", "2")] == ["1", "2", "3"]


@pytest.mark.parametrize("name", ["", "smok", "../params"])
def test_an_unknown_preset_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="allowed: default, "):
        preset_file(name)


def test_every_preset_has_a_file() -> None:
    assert preset_names() == ["default", *[name for name in PRESETS if name != "default"]]
