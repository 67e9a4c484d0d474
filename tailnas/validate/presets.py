"""Presets: parameters as differences to presets/default.yaml."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.messages import Node, choices, resolve
from tailnas.validate.parameters import Params, checked_params, json_schema

FOLDER = Path("presets")
DEFAULT = "default"


def preset_names() -> list[str]:
    """Names of the presets, `default` first."""
    return [DEFAULT, *sorted(file.stem for file in FOLDER.glob("*.yaml") if file.stem != DEFAULT)]


def preset_file(name: str) -> Path:
    """The file of a preset. Raises UserError for an unknown one."""
    if name not in preset_names():
        raise UserError(f"NAME: {name!r}; allowed: {', '.join(preset_names())}")
    return FOLDER / f"{name}.yaml"


def load_preset(path: Path) -> Params:
    """The parameters of a file of presets/, or of a whole params.yaml. Raises UserError as `load_params` does."""
    return checked_params(whole_document(path), str(path))


def whole_document(path: Path) -> Any:
    """The document in `path`, put into that of presets/default.yaml where it is not whole."""
    document = read_yaml(path)
    if not isinstance(document, dict) or document.keys() >= Params.model_fields.keys():
        return document
    schema = json_schema()
    return with_changes(read_yaml(FOLDER / f"{DEFAULT}.yaml"), document, schema, schema)


def with_changes(values: Any, changes: Any, node: Node, schema: Node) -> Any:
    """`values`, which `node` of `schema` describes, with `changes` put in, in place where both are sections.

    A section that comes in several kinds is replaced as a whole where `changes` name the kind.
    """
    if not isinstance(values, dict) or not isinstance(changes, dict):
        return copy.deepcopy(changes)
    node = resolve(node, schema)
    if "discriminator" in node:
        by = node["discriminator"]["propertyName"]
        if by in changes:
            return copy.deepcopy(changes)
        node = choices(node, schema).get(str(values[by]), {})
    for key, value in changes.items():
        below = node.get("properties", {}).get(key, {})
        values[key] = with_changes(values.get(key), value, below, schema)
    return values
