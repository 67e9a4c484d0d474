"""Write what is generated from the parameters' types: `python -m workflow.reference`.

docs/parameters.md is the reference of params.yaml, docs/params.schema.json is what editors complete and check from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tailnas.params import json_schema, read_yaml

REFERENCE = Path("docs/parameters.md")
SCHEMA = Path("docs/params.schema.json")

Node = dict[str, Any]
"""A node of the JSON schema, references resolved."""

HEAD = """\
# Parameters

<!-- Written by `make docs` from tailnas/params.py, params.yaml and dvc.yaml. Do not edit. -->

`params.yaml` holds every parameter; none has a default in the code. The column *default* is what the committed
`params.yaml` says. A section's stages are those whose results depend on it: a change reruns them and what follows them.
`validate` reads all of it first, and a mistake is one line with the key, the value and what is allowed.

Change one for good by editing `params.yaml`, or for one run with `dvc exp run -S search.epochs=50`.
Section numbers in the text are those of [methods.md](methods.md).
"""

BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "pattern": "matching `{}`",
    "minLength": "not empty",
    "maxLength": "at most {} characters",
}
TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "string": "text", "null": "null"}


def reference() -> dict[Path, str]:
    """The generated files and their content. Reads params.yaml and dvc.yaml in the working directory."""
    return {REFERENCE: _reference(), SCHEMA: json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"}


def _reference() -> str:
    schema, values = json_schema(), read_yaml(Path("params.yaml"))
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    text = [HEAD]
    for name, raw in schema["properties"].items():
        section = _resolved(raw, schema)
        text.append(f"## {name}\n\n{section.get('description', '')}\n\n{_readers(name, stages)}\n")
        text += _tables(name, section, values.get(name), schema)
    return "\n".join(text)


def _readers(section: str, stages: dict[str, Any]) -> str:
    """Which stages of dvc.yaml list the section, or keys of it, among their params, or multiply over it."""
    documents = {name: document.get("do", document) for name, document in stages.items()}
    listing = [
        f"`{name}`"
        for name, document in documents.items()
        if any(key.split(".")[0] == section for key in document.get("params", []))
    ]
    multiplied = [
        f"`{name}`"
        for name, document in documents.items()
        if any(str(values).startswith(f"${{{section}.") for values in document.get("matrix", {}).values())
    ]
    text = f"Stages: {', '.join(listing) if listing else 'none but `validate`'}."
    if multiplied:
        text += f" Of {', '.join(multiplied)} there is one for each entry that it concerns."
    return text


def _tables(key: str, section: Node, values: Any, schema: Node) -> Iterator[str]:
    """The table of a section, and one for each kind of a field that comes in several."""
    rows, sections = [], []
    for name, raw in section["properties"].items():
        node = _resolved(raw, schema)
        value = values.get(name, "") if isinstance(values, dict) else ""
        if "discriminator" in node:
            sections.append((f"{key}.{name}", node, value))
            kinds = ", ".join(f"`{kind}`" for kind in node["discriminator"]["mapping"])
            by_kind = node["discriminator"]["propertyName"]
            rows.append((f"`{name}`", "section", f"keys by `{by_kind}`: {kinds}", "", node.get("description", "")))
        elif node.get("type") == "object":
            sections.append((f"{key}.{name}", node, value))
            rows.append((f"`{name}`", "section", "see below", "", node.get("description", "")))
        else:
            meaning = node.get("description", "Says which of these it is." if "const" in node else "")
            rows.append((f"`{name}`", _types(node, schema), _allowed(node, schema), _code(value), meaning))
    yield _table(rows)
    yield from _nested(sections, schema)


def _nested(sections: list[tuple[str, Node, Any]], schema: Node) -> Iterator[str]:
    """What lies below a table: sections of their own, and kinds, each once however many fields may be of it."""
    kinds: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for key, node, value in sections:
        if "discriminator" not in node:
            yield f"### {key}\n\n{node.get('description', '')}\n"
            yield from _tables(key, node, value, schema)
            continue
        for kind, target in node["discriminator"]["mapping"].items():
            chosen = isinstance(value, dict) and value.get(node["discriminator"]["propertyName"]) == kind
            kinds.setdefault((kind, target), []).append((key, value if chosen else None))
    for (kind, target), places in kinds.items():
        node = _resolved({"$ref": target}, schema)
        where = " or ".join(f"`{key}`" for key, _ in places)
        yield f"### kind: {kind}\n\nFor {where}. {node.get('description', '')}\n"
        yield from _tables(kind, node, next((value for _, value in places if value), None), schema)


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| key | type | allowed | default | meaning |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _types(node: Node, schema: Node) -> str:
    branches = _branches(node, schema)
    if branches:
        return " or ".join(dict.fromkeys(_types(branch, schema) for branch in branches))
    if node.get("type") == "array":
        return f"list of {_types(_resolved(node['items'], schema), schema)}"
    return TYPES.get(node.get("type", ""), "text or number")


def _allowed(node: Node, schema: Node) -> str:
    branches = _branches(node, schema)
    if branches:
        return " or ".join(dict.fromkeys(_allowed(branch, schema) for branch in branches))
    if "const" in node:
        return _code(node["const"])
    if "enum" in node:
        return ", ".join(map(_code, node["enum"]))
    if node.get("type") == "array":
        entries = _allowed(_resolved(node["items"], schema), schema)
        least, most = node.get("minItems", 0), node.get("maxItems")
        size = f"{least}" if least == most else f"{least} or more"
        different = " different" if node.get("uniqueItems") else ""
        return f"{size}{different}, each {entries}"
    if node.get("type") == "boolean":
        return "`true`, `false`"
    if node.get("type") == "null":
        return "`null`"
    return ", ".join(text.format(node[name]) for name, text in BOUNDS.items() if name in node) or "any"


def _branches(node: Node, schema: Node) -> list[Node]:
    branches: list[Node] = node.get("anyOf") or node.get("oneOf") or []
    return [_resolved(branch, schema) for branch in branches]


def _resolved(node: Node, schema: Node) -> Node:
    if "$ref" not in node:
        return node
    return {**schema["$defs"][node["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in node.items() if k != "$ref"}}


def _code(value: Any) -> str:
    if value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def main() -> None:
    for path, text in reference().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
