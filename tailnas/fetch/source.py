"""What a file of tailnas/sources offers beside its `Settings`.

    load(settings, image_size, channels) -> Dataset    # all images, in the size and channels asked for
    class_names(settings) -> tuple[str, ...] | None    # as far as known without fetching
    train_counts(settings) -> list[int] | None         # training images of each class, likewise
    test_counts(settings) -> list[int]                 # test images of each class; without it there are some
    watched(settings) -> list[Path]                    # the user's files that load reads; without it there are none
    shared_images(settings, other) -> str | None       # of two data sets of this kind; without it they are the same

All raise UserError.
"""

from __future__ import annotations

from pathlib import Path

from tailnas.foundation.extensions import Chosen


def watched(source: Chosen) -> list[Path]:
    """The user's own files that the data set is made of. Raises UserError."""
    if not hasattr(source.module, "watched"):
        return []
    files: list[Path] = source.module.watched(source.settings)
    return files


def shared_images(target: Chosen, source: Chosen) -> str | None:
    """The key of `target` and its value by which both are the same images, None where they are not."""
    if target.name != source.name:
        return None
    if not hasattr(target.module, "shared_images"):
        return f"kind: {target.name!r} is the same images"
    shared: str | None = target.module.shared_images(target.settings, source.settings)
    return shared
