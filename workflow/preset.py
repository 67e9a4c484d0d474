"""Write params.yaml from a preset: `make preset NAME=smoke`.

The whole of presets/default.yaml with the preset's differences, comments included. Edits of your own in params.yaml are
kept as params.yaml.bak, or params.yaml.bak1 and so on where that holds others.
"""

from __future__ import annotations

import io
import sys
from itertools import count
from pathlib import Path

from ruamel.yaml import YAML

from tailnas.foundation.errors import UserError
from tailnas.foundation.stage import main as stage_main
from tailnas.validate.parameters import json_schema
from tailnas.validate.presets import DEFAULT, load_preset, preset_file, preset_names, with_changes

PARAMS = Path("params.yaml")
SCHEMA_LINE = "# yaml-language-server: $schema=docs/params.schema.json\n"


def preset_text(name: str) -> str:
    """The whole params.yaml of a preset: head, keys and comments. Raises UserError for an unknown one."""
    if name == DEFAULT:
        return preset_file(DEFAULT).read_text(encoding="utf-8")
    head, changes = _head_and_body(preset_file(name))
    round_trip = _round_trip()
    document = round_trip.load(_head_and_body(preset_file(DEFAULT))[1])
    schema = json_schema()
    with_changes(document, round_trip.load(changes), schema, schema)
    text = io.StringIO()
    round_trip.dump(document, text)
    return f"{SCHEMA_LINE}{head}\n{text.getvalue()}"


def _head_and_body(path: Path) -> tuple[str, str]:
    """The comment at the head of a file, and what follows."""
    head, blank, body = path.read_text(encoding="utf-8").partition("\n\n")
    if not blank or not all(line.startswith("#") for line in head.splitlines()):
        raise UserError(f"{path}: no comment at its head; allowed: lines of comment, an empty line, then the keys")
    return f"{head}\n", body


def _round_trip() -> YAML:
    """Keeps comments; a safe loader, which makes plain values only, whatever tags a file has."""
    round_trip = YAML(typ="rt")
    round_trip.width = 120
    round_trip.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return round_trip


def put_aside(path: Path) -> Path:
    """Rename `path` to its name with .bak, or .bak1 and so on where that holds something else; returns it."""
    numbered = (path.with_name(f"{path.name}.bak{number or ''}") for number in count())
    kept = next(file for file in numbered if not file.exists() or file.read_bytes() == path.read_bytes())
    return path.replace(kept)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    load_preset(preset_file(name))
    text = preset_text(name)
    if PARAMS.exists() and PARAMS.read_bytes() not in {preset_text(other).encode() for other in preset_names()}:
        print(f"the old params.yaml is now {put_aside(PARAMS)}")
    PARAMS.write_text(text, encoding="utf-8")
    print(f"params.yaml is now the preset {name}")


if __name__ == "__main__":
    stage_main(main)
