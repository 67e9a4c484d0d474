"""Write what is generated from the settings' types and dvc.yaml: `python -m workflow.reference`.

docs/parameters.md is the reference of params.yaml, docs/params.schema.json is what editors complete and check from,
docs/staleness.md says what makes which stage stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.messages import Node, choices, resolve
from tailnas.validate.parameters import json_schema
from tailnas.validate.presets import DEFAULT, preset_file
from workflow import staleness

REFERENCE = Path("docs/parameters.md")
SCHEMA = Path("docs/params.schema.json")

HEAD = """\
# Parameters

<!-- Written by `make docs` from the settings' types, presets/default.yaml and dvc.yaml. Do not edit. -->

`params.yaml` holds every parameter; none has a default in the code. The column *default* is what the committed
`params.yaml` says. A change reruns the stages that a section names, and what follows them. `validate` reads all of it
first, and a mistake is one line with the key, the value and what is allowed.

Change one for good by editing `params.yaml`, or for one run with `dvc exp run -S search.training.epochs=50`.
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
TYPES = {
    "object": "mapping to text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "text",
    "null": "null",
}


def reference() -> dict[Path, str]:
    """The generated files and their content. Reads presets/ and dvc.yaml in the working directory."""
    return {
        REFERENCE: _Reference().text(),
        SCHEMA: json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n",
        staleness.DOCUMENT: staleness.table(),
    }


class _Reference:
    """docs/parameters.md."""

    def __init__(self) -> None:
        self.schema = json_schema()
        self.printed: dict[str, str] = {}
        self.values = read_yaml(preset_file(DEFAULT))
        stages = read_yaml(Path("dvc.yaml"))["stages"]
        self.stages = {name: document.get("do", document) for name, document in stages.items()}

    def text(self) -> str:
        sections = (self._section(key, node, self.values[key], 2) for key, node in self._fields(self.schema))
        return "\n".join([HEAD, *(line for section in sections for line in section)])

    def _fields(self, node: Node) -> Iterator[tuple[str, Node]]:
        yield from ((key, resolve(raw, self.schema)) for key, raw in node["properties"].items())

    def _section(self, key: str, node: Node, value: Any, level: int) -> Iterator[str]:
        """The heading of a section, its description, its table, and the sections below it."""
        yield f"{'#' * level} {key}\n"
        described = " ".join(node.get("description", "").split())
        yield f"{described} {self._readers(key)}".strip() + "\n"
        same = json.dumps({name: part for name, part in node.items() if name not in ("description", "title")})
        first = self.printed.setdefault(same, key)
        if first != key and node.get("properties") != {}:
            yield f"The keys of {first}" + (f"; default: `{json.dumps(value)}`" if value else "") + ".\n"
            return
        if "discriminator" in node:
            yield from self._kinds(key, node, value)
        else:
            yield from self._table(key, node, value, "")
        for name, below in self._sections_below(node):
            own = value.get(name) if isinstance(value, dict) else None
            yield from self._section(f"{key}.{name}", below, own, min(level + 1, 4))

    def _kinds(self, key: str, node: Node, value: Any) -> Iterator[str]:
        """A table for each kind of a section, or for several that have the same keys."""
        by = node["discriminator"]["propertyName"]
        kinds: dict[str, list[str]] = {}
        branches = choices(node, self.schema)
        for name, branch in branches.items():
            own = {**branch, "title": "", "properties": {k: v for k, v in branch["properties"].items() if k != by}}
            kinds.setdefault(json.dumps(own), []).append(name)
        for names in kinds.values():
            branch = branches[names[0]]
            chosen = value if isinstance(value, dict) and value.get(by) in names else {}
            meaning = [branch.get("description", ""), branch["properties"][by].get("description", "")]
            yield f"**{by}: {', '.join(names)}.** {' '.join(' '.join(meaning).split())}\n"
            yield from self._table(key, branch, chosen, by)

    def _sections_below(self, node: Node) -> Iterator[tuple[str, Node]]:
        """Sections of a section, each once however many of its kinds have it."""
        found: dict[str, Node] = {}
        for branch in choices(node, self.schema).values() if "discriminator" in node else [node]:
            for name, field in self._fields(branch):
                section = self._as_section(field)
                if section is not None:
                    found.setdefault(name, section)
        yield from found.items()

    def _as_section(self, node: Node) -> Node | None:
        """The section that a field holds, null or not; None where it holds a plain value."""
        if "properties" in node or "discriminator" in node:
            return node
        objects = [branch for branch in self._branches(node) if "properties" in branch]
        return {**objects[0], "description": node["description"]} if objects else None

    def _table(self, key: str, node: Node, values: Any, by: str) -> Iterator[str]:
        rows = []
        for name, field in self._fields(node):
            if name == by:
                continue
            value = values.get(name, "") if isinstance(values, dict) else ""
            if self._as_section(field) is not None:
                plain = [branch for branch in self._branches(field) if self._as_section(branch) is None]
                kinds = " or ".join(["section", *map(self._types, plain)])
                bounds = [self._allowed(branch) for branch in plain if branch.get("type") != "null"]
                allowed = " or ".join([*bounds, f"see {key}.{name}"])
                shown = "`null`" if value is None else ""
                rows.append((f"`{name}`", kinds, allowed, shown, field.get("description", "")))
            else:
                meaning = field.get("description", "")
                rows.append((f"`{name}`", self._types(field), self._allowed(field), _code(value), meaning))
        if rows:
            lines = ["| key | type | allowed | default | meaning |", "|---|---|---|---|---|"]
            lines += [
                f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |" for row in rows
            ]
            yield "\n".join(lines) + "\n"

    def _readers(self, key: str) -> str:
        """Which stages of dvc.yaml list the section among their params, or multiply over it."""
        listed, multiplied = [], []
        for name, document in self.stages.items():
            params = [re.sub(r"\$\{[^}]*\}", "*", declared) for declared in document.get("params", [])]
            if any(_covers(declared, key) for declared in params):
                listed.append(f"`{name}`")
            if any(str(values).startswith(f"${{{key}.") for values in document.get("matrix", {}).values()):
                multiplied.append(f"`{name}`")
        if "." not in key and not listed and not multiplied:
            inside = any(
                declared.startswith(f"{key}.") for doc in self.stages.values() for declared in doc.get("params", [])
            )
            return "" if inside else "No stage depends on it but `validate`."
        text = f"Stages: {', '.join(listed)}." if listed else ""
        if multiplied:
            text += f" There is one {', '.join(multiplied)} for each entry that it concerns."
        return text

    def _types(self, node: Node) -> str:
        if branches := self._branches(node):
            return " or ".join(dict.fromkeys(map(self._types, branches)))
        if node.get("type") == "array":
            return f"list of {self._types(resolve(node['items'], self.schema))}"
        return TYPES.get(node.get("type", ""), "text or number")

    def _allowed(self, node: Node) -> str:
        if branches := self._branches(node):
            return " or ".join(dict.fromkeys(map(self._allowed, branches)))
        if "const" in node:
            return _code(node["const"])
        if "enum" in node:
            return ", ".join(map(_code, node["enum"]))
        if node.get("type") == "array":
            entries = self._allowed(resolve(node["items"], self.schema))
            least, most = node.get("minItems", 0), node.get("maxItems")
            size = f"{least}" if least == most else f"{least} or more"
            different = " different" if node.get("uniqueItems") else ""
            return f"{size}{different}, each {entries}"
        if node.get("type") == "object":
            return f"each of {self._allowed(node['propertyNames'])} or none"
        if node.get("type") == "boolean":
            return "`true`, `false`"
        if node.get("type") == "null":
            return "`null`"
        return ", ".join(text.format(node[name]) for name, text in BOUNDS.items() if name in node) or "any"

    def _branches(self, node: Node) -> list[Node]:
        return [resolve(branch, self.schema) for branch in node.get("anyOf", [])]


def _covers(declared: str, key: str) -> bool:
    """Whether params entry `declared`, in which * stands for any one name, is `key` or a section that holds it."""
    pattern = re.escape(declared).replace(r"\*", r"[^.]+")
    return re.fullmatch(rf"{pattern}(\..*)?", key) is not None


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
