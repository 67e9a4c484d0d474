"""What makes which stage stale: `python -m workflow.staleness` prints a table of every parameter and library file.

It is read from dvc.yaml alone; tests/pipeline/test_staleness.py holds it against what each stage really imports and
reads. A stage of a run stands there as search@METHOD, others by their name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailnas.foundation.extensions import names
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.presets import DEFAULT, preset_file

DOCUMENT = Path("docs/staleness.md")

VARIANTS = {
    "${item.method}": names("tailnas.methods"),
    "${item.kind}": names("tailnas.sources"),
    "${key}": ("source", "target"),
    "${retrain.loss.name}": names("tailnas.losses"),
    "${adapt.method}": names("tailnas.heads"),
}
"""What stands in the place of the templates in dependencies on code and on parameters."""

HEAD = """\
# What makes what stale

<!-- Written by `make docs` from dvc.yaml and presets/default.yaml. Do not edit. -->

A change of the key or file on the left reruns the stages on the right, and after them those whose inputs it changed.
`search@bbn` is the search of every run of `bbn`, `retrain/focal` every retraining whose loss is `focal`, `fetch/source`
the source's fetch. `validate` reads all of `params.yaml` and is left out of the first table.
"""


@dataclass(frozen=True)
class Dependency:
    """A path or dotted key that `stage` depends on; the templates in it have one of their values."""

    stage: str
    path: str


def dependencies(what: str) -> Iterator[Dependency]:
    """What the stages of dvc.yaml list under `what`, deps or params, once for each value of a template."""
    for name, document in read_yaml(Path("dvc.yaml"))["stages"].items():
        for declared in document.get("do", document).get(what, []):
            template = next((template for template in VARIANTS if template in declared), None)
            if template is None:
                yield Dependency(name, declared)
                continue
            mark = "@" if template == "${item.method}" else "/"
            for value in VARIANTS[template]:
                yield Dependency(f"{name}{mark}{value}", declared.replace(template, value))


def stale(path: str, listed: Iterable[Dependency], separator: str) -> list[str]:
    """The stages that depend on `path` or on what holds it."""
    return [one.stage for one in listed if path == one.path or path.startswith(one.path + separator)]


def keys(values: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a document that holds a value and no further keys."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def library_files() -> list[str]:
    """Files of the library and the stage scripts, as git would list them."""
    return sorted(
        str(file)
        for folder in ("stages", "tailnas")
        for file in Path(folder).rglob("*")
        if file.suffix in {".py", ".j2"} and file.name != "__init__.py"
    )


def table() -> str:
    """docs/staleness.md."""
    params, deps = list(dependencies("params")), list(dependencies("deps"))
    matrix = {
        name: str(document["matrix"])
        for name, document in read_yaml(Path("dvc.yaml"))["stages"].items()
        if "matrix" in document
    }
    rows: dict[str, str] = {}
    for key in keys(read_yaml(preset_file(DEFAULT))):
        found = stale(key, params, ".") + [f"a new {name}" for name, lists in matrix.items() if f"${{{key}}}" in lists]
        rows[key] = ", ".join(found) or "none"
    files = {file: ", ".join(stale(file, deps, "/")) or "none" for file in library_files()}
    return "\n".join([HEAD, *_lines("key", rows, "."), "", *_lines("file", files, "/")]) + "\n"


def _lines(title: str, rows: dict[str, str], separator: str) -> Iterator[str]:
    """A table; neighbours of one section or folder with the same stages share a line."""
    yield f"| {title} | stages |"
    yield "|---|---|"
    groups: dict[tuple[str, str], list[str]] = {}
    for name, found in rows.items():
        above, _, last = name.rpartition(separator)
        groups.setdefault((above, found), []).append(last)
    for (above, found), members in groups.items():
        where = f"`{above}{separator}` " if above else ""
        yield f"| {where}{' '.join(f'`{member}`' for member in members)} | {found} |"


def main() -> None:
    print(table(), end="")


if __name__ == "__main__":
    main()
