"""Names of classes, which come from folders, tables, archives and model files, and go into tables and terminals."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

FORMULA = ("=", "+", "-", "@")


def wrong_class_name(names: Iterable[str]) -> str | None:
    """What to say of the first name that cannot serve, with what is allowed; None where all can.

    It may not be a spreadsheet's formula, hold control characters, or be there twice, in another Unicode form or with a
    space at an end included.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not name.isprintable():
            return f"class name {name!r}; allowed: printable UTF-8"
        if name.startswith(FORMULA):
            return (
                f"class name {name!r} is a formula in a spreadsheet that opens the report's tables; "
                f"allowed: another first character than {' '.join(FORMULA)}"
            )
        alike = unicodedata.normalize("NFC", name).strip()
        other = seen.get(alike)
        if other == name:
            return f"class name {name!r} twice; allowed: each once"
        seen[alike] = name
        if other is not None:
            return (
                f"the classes {other!a} and {name!a} look the same (they differ in how a letter is written, or by a "
                "space); allowed: one name for each class"
            )
    return None
