"""Search methods: one module each, found by its name, with a function `search(task) -> SearchResult`.

A new method is a module in this package and its name in `tailnas.params.Method`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import get_args

from tailnas.errors import UserError
from tailnas.params import Method
from tailnas.search.task import SearchResult, SearchTask


def method(name: str) -> Callable[[SearchTask], SearchResult]:
    """The search of `study.methods` entry `name`. Raises UserError for an unknown one."""
    if name not in get_args(Method):
        raise UserError(f"study.methods: {name!r}; allowed: {', '.join(get_args(Method))}")
    search: Callable[[SearchTask], SearchResult] = import_module(f"{__name__}.{name}").search
    return search
