"""Which keys of params.yaml a stage script reads: every access to a field of its settings is written down."""

from __future__ import annotations

from typing import Any

CHOOSING = {"kind", "method", "name", "schedule", "when"}
"""Keys that say of which kind a section is: parsing reads them."""


def traced_reads() -> set[str]:
    """From now on every key that this process reads is added to the set returned."""
    from tailnas.foundation.extensions import Chosen
    from tailnas.foundation.settings import Section
    from tailnas.foundation.stage import Stage

    reads: set[str] = set()
    places: dict[int, str] = {}
    kept: list[Any] = []  # so that no id is given twice

    def place(value: Any, key: str) -> Any:
        if isinstance(value, Chosen):
            place(value.settings, key)
        elif isinstance(value, Section):
            kept.append(value)
            places[id(value)] = key
            reads.update(f"{key}.{name}" for name in CHOOSING & type(value).model_fields.keys())
        else:
            reads.add(key)
        return value

    def read(self: Section, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if id(self) in places and name in type(self).model_fields:
            place(value, f"{places[id(self)]}.{name}")
        return value

    def copied(self: Section, *, update: dict[str, Any] | None = None, deep: bool = False) -> Section:
        copy = copy_of(self, update=update, deep=deep)
        if id(self) in places:
            place(copy, places[id(self)])
        return copy

    copy_of, section, chosen = Section.model_copy, Stage.section, Stage.chosen
    Section.__getattribute__ = read  # type: ignore[method-assign]
    Section.model_copy = copied  # type: ignore[method-assign]
    Stage.section = lambda self, key, kind: place(section(self, key, kind), key)  # type: ignore[method-assign]
    Stage.chosen = lambda self, key, one_of: place(chosen(self, key, one_of), key)  # type: ignore[method-assign]
    return reads
