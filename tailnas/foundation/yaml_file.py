"""YAML read safely, by the reader that DVC has: what a stage reads is what DVC resolved."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tailnas.foundation.errors import UserError, plain

_PLAIN = (str, bool, int, float, type(None))
_DEEP = 5000
"""Levels to which a parser that recurses may go."""
LARGEST = 1_000_000
"""Values in a document: with aliases a small file holds more than DVC would ever be done with."""


def read_yaml(path: Path) -> Any:
    """The document in `path`: sections, lists, text, numbers, true, false and null.

    Raises UserError where it cannot be read, is no YAML, or holds anything else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of anchors that are used twice
            text = path.read_text(encoding="utf-8")
            document = _parsed(text)
        _require_plain(document, "", frozenset(), {})
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise UserError(f"{path}:{where} {plain(problem)}; allowed: YAML as in presets/") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {plain(str(error).splitlines()[0])}; allowed: YAML text in UTF-8") from None
    except _Unplain as error:
        raise UserError(f"{path}: {error}; allowed: YAML as in presets/") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); allowed: a YAML file as in presets/") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; allowed: a YAML file as in presets/") from None
    except Exception as error:  # tags on values that they do not fit raise nearly anything
        reason = plain(" ".join(f"{type(error).__name__}: {error}".split()))
        raise UserError(
            f"{path}:{_place(text)} cannot be read ({reason}); allowed: a YAML file as in presets/"
        ) from None
    return document


def _parsed(text: str) -> Any:
    """DVC takes the parser in C, which kills the process where lists are nested 100,000 deep; Python's raises."""
    deepest = text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0)
    if deepest > _DEEP:
        YAML(typ="safe", pure=True).load(text)
    try:
        return YAML(typ="safe").load(text)
    except YAMLError:  # Python's parser says better what is wrong, though it accepts a little more
        YAML(typ="safe", pure=True).load(text)
        raise


def _place(text: str) -> str:
    """Where the first value stands that does not fit its tag, as ` line 3, column 7:`, or nothing."""
    loader, seen = YAML(typ="safe", pure=True), set[int]()
    with suppress(Exception):
        nodes = [loader.compose(text)]
        while nodes:
            node = nodes.pop()
            if id(node) in seen:  # an alias
                continue
            seen.add(id(node))
            if isinstance(node.value, list):
                pairs = [entry if isinstance(entry, tuple) else (entry,) for entry in node.value]
                nodes += reversed([part for pair in pairs for part in pair])
                continue
            try:
                loader.constructor.construct_object(node)
            except Exception:
                return f" line {node.start_mark.line + 1}, column {node.start_mark.column + 1}:"
    return ""


class _Unplain(Exception):
    """Something that YAML can hold and params.yaml cannot; the message names its key."""


def _require_plain(value: Any, key: str, above: frozenset[int], done: dict[int, int]) -> int:
    """How many values there are, each alias counted as what it stands for. done: of sections and lists seen already."""
    where = f"{plain(key)}: " if key else ""
    if type(value) in _PLAIN:
        return 1
    if id(value) in done:
        return done[id(value)]
    if id(value) in above:
        raise _Unplain(f"{where}holds itself")
    entries: Iterable[tuple[str | int, Any]]
    if type(value) is dict:
        for name in value:
            if not isinstance(name, str):
                raise _Unplain(f"{where}key {plain(repr(name))} is not text")
        entries = value.items()
    elif type(value) is list:
        entries = enumerate(value)
    else:
        raise _Unplain(f"{where}{plain(str(value))} is of the type {type(value).__name__} (text needs quotes)")
    below = above | {id(value)}
    count = 1 + sum(_require_plain(one, f"{key}.{name}" if key else str(name), below, done) for name, one in entries)
    if count > LARGEST:
        raise _Unplain(f"{where}holds {count:,} values, counting what aliases stand for; at most {LARGEST:,}")
    done[id(value)] = count
    return count
