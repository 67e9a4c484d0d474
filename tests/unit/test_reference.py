"""What is generated from the parameters' types is up to date, and every committed params.yaml is valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from stages.validate import check
from tailnas.params import Params, load_params, read_yaml
from workflow.reference import REFERENCE, SCHEMA, reference

ROOT = Path(__file__).parents[2]
COMMITTED = [Path("params.yaml"), *sorted(path.relative_to(ROOT) for path in (ROOT / "presets").glob("*.yaml"))]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", [REFERENCE, SCHEMA], ids=str)
def test_committed_file_is_what_make_docs_writes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference()[path], "run `make docs` and commit what it writes"


def test_reference_explains_every_key() -> None:
    text = reference()[REFERENCE]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    for section in Params.model_fields:
        assert f"\n## {section}\n" in text
        for key in read_yaml(Path("params.yaml"))[section]:
            assert any(row[0] == f"| `{key}`" for row in rows), f"{section}.{key}"
    unexplained = [row[0] for row in rows if len(row) != 5 or not row[1].strip() or row[4].strip(" |") == ""]
    assert unexplained == []


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("study", "methods"),
        ("split", "profile"),
        ("search", "mixing_schedule"),
        ("search", "hls_heads"),
        ("search", "hls_backbone"),
        ("search", "adaptation"),
        ("retrain", "loss"),
        ("retrain", "sampler"),
        ("adapt", "method"),
    ],
)
def test_methods_page_explains_every_choice(section: str, key: str) -> None:
    text = Path("docs/methods.md").read_text(encoding="utf-8")
    field = Params.model_fields[section].annotation.model_fields[key]  # type: ignore[union-attr]
    choices = get_args(field.annotation)
    if section == "study":
        choices = get_args(choices[0])
    assert choices
    assert [choice for choice in choices if f"`{choice}`" not in text] == []


@pytest.mark.parametrize("path", COMMITTED, ids=str)
def test_preset_is_valid_for_the_pipeline_and_for_editors(path: Path) -> None:
    params = load_params(path)
    check(params)
    jsonschema.validate(read_yaml(path), json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", COMMITTED, ids=str)
def test_editors_find_the_schema_from_a_preset(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.split("=", 1)[1]).resolve() == (ROOT / SCHEMA).resolve()


def test_a_wrong_value_is_refused_by_the_schema() -> None:
    document = read_yaml(Path("params.yaml"))
    document["search"]["epochs"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minimum"):
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
