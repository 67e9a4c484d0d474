"""Where images come from: one module a kind, each with `load`, `train_counts` and `class_names`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from tailnas.errors import UserError

if TYPE_CHECKING:
    from tailnas.data.dataset import Dataset

KINDS = ("digits", "glyphs", "cifar10", "cifar100", "folder")


class Source(Protocol):
    """What each module below this package offers; `settings` is the kind's section of params.yaml."""

    def load(self, settings: Any, image_size: int, channels: int) -> Dataset:
        """All images, in the size and channels asked for. Raises UserError."""

    def class_names(self, settings: Any) -> tuple[str, ...] | None:
        """Names of the classes as far as known without fetching, else None. Raises UserError."""

    def train_counts(self, settings: Any) -> list[int] | None:
        """Training images of each class as far as known without fetching, else None. Raises UserError."""


def source(kind: str) -> Source:
    """The module of one kind, imported when first asked for."""
    if kind not in KINDS:
        raise UserError(f"kind: {kind!r} is not known; allowed: {', '.join(KINDS)}")
    return cast(Source, import_module(f"{__name__}.{kind}"))
