"""The output folder of an experiment, which belongs to one params.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen
from tailnas.foundation.settings import Section
from tailnas.validate.parameters import Params

FILE = "params.json"


def claim(folder: Path, params: Params) -> None:
    """Note in `folder` which parameters its results are of.

    Raises UserError where they are of others. Seeds may be added, and `runtime` may change: they change no result that
    is there already. A folder without a note is taken as one of these parameters.
    """
    document = _document(params)
    del document["runtime"], document["study"]["seeds"]
    file = folder / FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}); allowed: what an experiment wrote") from None
    if not isinstance(noted, dict):
        raise UserError(f"{file}: {noted!r:.80}; allowed: what an experiment wrote")
    noted, asked = dict(_leaves(noted)), dict(_leaves(document))
    for key in sorted(noted.keys() | asked.keys()):
        if noted.get(key) != asked.get(key):
            raise UserError(
                f"{folder}: its results are of {key} {json.dumps(noted.get(key))}, not {json.dumps(asked.get(key))}; "
                "allowed: the parameters it was begun with, or another folder"
            )


def _document(value: Any) -> Any:
    """What would stand in params.yaml."""
    if isinstance(value, Chosen):
        return _document(value.settings)
    if isinstance(value, Section):
        return {name: _document(getattr(value, name)) for name in type(value).model_fields}
    return value


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values, a list being one value."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _leaves(child, f"{key}.{name}" if key else name)
    else:
        yield key, node
