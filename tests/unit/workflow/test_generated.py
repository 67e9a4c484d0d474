"""What is generated from the settings' types and dvc.yaml is up to date, and says all there is to say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tailnas.foundation.extensions import extension, names
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.messages import choices, resolve
from tailnas.validate.parameters import json_schema
from workflow.reference import REFERENCE, SCHEMA, reference
from workflow.staleness import DOCUMENT

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", [REFERENCE, SCHEMA, DOCUMENT], ids=str)
def test_committed_file_is_what_make_docs_writes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference()[path], "run `make docs` and commit what it writes"


def fields(node: dict[str, Any], key: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every field of the schema: its key, its node, and whether it says of which kind its section is."""
    schema = json_schema()
    node = resolve(node, schema)
    for branch in node.get("anyOf", []):
        yield from fields(branch, key)
    by = node.get("discriminator", {}).get("propertyName")
    for section in choices(node, schema).values() if by else [node]:
        for name, raw in section.get("properties", {}).items():
            below = f"{key}.{name}" if key else name
            yield below, resolve(raw, schema), name == by
            yield from fields(raw, below)


def test_every_setting_is_described_and_stands_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for key, node, chooses in fields(json_schema()):
        assert chooses or node.get("description"), f"{key} has no description"
        if not chooses:
            section, _, name = key.rpartition(".")
            assert f"| `{name}` |" in text if section else f"\n## {name}\n" in text, key


CHOICES = (
    "split.profile",
    "search.bbn.mixing.schedule",
    "search.bbn_hls.heads",
    "search.bbn_hls.backbone.schedule",
    "search.imb_nas.adaptation.name",
    "search.imb_nas.candidates.name",
    "retrain.branches.sampler",
    "retrain.reweighting.when",
)


def allowed(key: str) -> set[str]:
    """Every value that the schema allows for a key."""
    nodes = [node for found, node, _ in fields(json_schema()) if found == key]
    return {value for node in nodes for value in node.get("enum", [node.get("const")])}


@pytest.mark.parametrize("key", CHOICES)
def test_methods_page_explains_every_choice(key: str) -> None:
    text = Path("docs/methods.md").read_text(encoding="utf-8")
    assert len(allowed(key)) > 1
    assert [choice for choice in sorted(allowed(key)) if f"`{choice}`" not in text] == []


@pytest.mark.parametrize("package", ["methods", "losses", "heads"])
def test_methods_page_has_every_extension_with_its_keys_in_its_table(package: str) -> None:
    chosen_by = {"methods": "study.methods", "losses": "retrain.loss", "heads": "adapt.method"}[package]
    text = Path("docs/methods.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith(f"| `{chosen_by}` |")]
    table = {row[1].strip(" `"): re.findall("`([a-z0-9_]+)`", row[4]) for row in rows}
    found = {name: extension(f"tailnas.{package}", name, chosen_by) for name in names(f"tailnas.{package}")}
    assert table == {name: list(module.Settings.model_fields) for name, module in found.items()}


def test_a_wrong_value_is_refused_by_the_schema() -> None:
    document, schema = read_yaml(Path("params.yaml")), json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    document["retrain"]["loss"] = {"name": "focal", "gamma": -1.0}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
