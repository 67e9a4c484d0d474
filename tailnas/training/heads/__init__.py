"""Head adaptation: what can be done to a trained classifier on frozen features, one module a method."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tailnas.training.heads.task import HeadResult, HeadTask

HEAD_METHODS = ("reweight", "crt", "lws", "tau_norm", "none")
"""Each is the module of this name, with a function `adapt_head`."""


def head_method(name: str) -> Callable[[HeadTask], HeadResult]:
    """The function that changes `task.head` in place. Raises ValueError for an unknown name."""
    if name not in HEAD_METHODS:
        raise ValueError(f"method: {name!r} is not known; allowed: {', '.join(HEAD_METHODS)}")
    return cast("Callable[[HeadTask], HeadResult]", import_module(f"{__name__}.{name}").adapt_head)
