"""Source and target share no image, whatever they are called."""

from __future__ import annotations

from pathlib import Path

from tailnas.data.dataset import load_meta
from tailnas.data.repeated import read_digests, shared_rows
from tailnas.foundation.errors import UserError

EXAMPLES = 3


def require_apart(target: Path, source: Path) -> None:
    """Raises UserError where the data sets in these folders share an image, pixel by pixel, in whichever parts."""
    own, theirs = read_digests(target), read_digests(source)
    shared = shared_rows(own, theirs)
    if not len(shared):
        return
    trained = sum(load_meta(target).train_counts)
    examples = [
        f"its training image {row}" if row < trained else f"its test image {row - trained}" for row in shared.tolist()
    ]
    raise UserError(
        f"data.target: {target.name!r} shares {len(shared)} of its {len(own)} images with data.source "
        f"{source.name!r}, such as {', '.join(examples[:EXAMPLES])} (from 0); "
        "allowed: source and target that share no image"
    )
