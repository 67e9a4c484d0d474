"""dvc.yaml: what each stage declares, and which paths the stages write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tailnas.foundation.errors import UserError, short
from tailnas.foundation.yaml_file import read_yaml

PIPELINE = Path("dvc.yaml")
ANY = "*"
"""Stands in outputs for what the lists of `study` fill in."""


def declarations() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name; of one that is multiplied, what each of its instances declares."""
    return {name: document.get("do", document) for name, document in _stages().items()}


def _stages() -> dict[str, dict[str, Any]]:
    """Raises UserError where dvc.yaml is not laid out as DVC wants it."""
    document = read_yaml(PIPELINE)
    stages = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        raise UserError(f"{PIPELINE}: stages: {short(stages)}; allowed: a section with each stage under its name")
    for name, stage in stages.items():
        declared = stage.get("do", stage) if isinstance(stage, dict) else None
        if not isinstance(declared, dict):
            raise UserError(f"{PIPELINE}: stages.{name}: {short(stage)}; allowed: a section with cmd, deps and outs")
        for what in ("deps", "params", "outs", "metrics", "plots"):
            if not isinstance(declared.get(what, []), list):
                given = short(declared[what])
                raise UserError(f"{PIPELINE}: stages.{name}.{what}: {given}; allowed: a list, or no such key")
    return stages


def outputs(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Stage and path of every output of dvc.yaml, a user's own stages included, with `params` filled in."""
    for name, document in _stages().items():
        each = _reference(document.get("foreach"), params) or {}
        entries = list(each.values() if isinstance(each, dict) else each) or [None]
        declared = document.get("do", document)
        for what in ("outs", "metrics", "plots"):
            for out in declared.get(what, []):
                (path,) = out if isinstance(out, dict) else (out,)
                for entry in entries:
                    yield name, _filled_in(path, params, entry)


def _filled_in(text: str, params: dict[str, Any], entry: Any) -> str:
    def value(match: re.Match[str]) -> str:
        found: Any = {**params, "item": _reference(entry, params)}
        for part in match[1].split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return ANY if found is None or isinstance(found, (dict, list)) else str(found)

    return re.sub(r"\$\{([^}]+)\}", value, text)


def _reference(entry: Any, params: dict[str, Any]) -> Any:
    """What an entry of `foreach` stands for, where it is a template of a whole section."""
    found = re.fullmatch(r"\$\{([^}]+)\}", entry) if isinstance(entry, str) else None
    if found is None:
        return entry
    value: Any = params
    for part in found[1].split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def overlap(path: Path, output: str) -> bool:
    """Whether `path` is the output, holds it or lies inside it: by its name, or where links lead."""
    fixed = Path(*_until_any(Path(output).parts))
    rest = Path(output).parts[len(fixed.parts) :]
    written = [(*base.parts, *rest) for base in places(fixed)]
    return any(all(map(fnmatchcase, given.parts, other)) for given in places(path) for other in written)


def places(path: Path) -> set[Path]:
    """`path` from the root, as it is named and, where a link leads elsewhere, there."""
    return {Path(os.path.abspath(path)), path.resolve()}  # noqa: PTH100 (resolve would follow the links)


def _until_any(parts: tuple[str, ...]) -> Iterator[str]:
    for part in parts:
        if ANY in part:
            return
        yield part
