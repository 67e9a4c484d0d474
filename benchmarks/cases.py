"""What is measured: which step, on a network and a batch of which size."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

CLASSES = 10
IN_CHANNELS = 3
STEPS = {
    "first": "DARTS, first order",
    "second": "DARTS, second order",
    "bbn_hls": "BBN-HLS, first order",
    "darts_deep": "DARTS as deep as BBN-HLS, first order",
    "derived": "training of the derived network DARTS_V2",
}


@dataclass(frozen=True)
class Case:
    """step: a key of `STEPS`. channels, cells: of the network (backbone cells where there are heads).

    batch: images of each half in a search step, where the two branches share them evenly, or of a training step. image:
    side in pixels.
    """

    step: str
    channels: int
    cells: int
    batch: int
    image: int

    @property
    def images_per_step(self) -> int:
        return self.batch if self.step == "derived" else 2 * self.batch

    def __str__(self) -> str:
        return f"{STEPS[self.step]}, C{self.channels} L{self.cells}, batch {self.batch}, {self.image}x{self.image}"

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def size(text: str) -> tuple[int, int, int, int]:
    """`16x8x32x32`: channels, cells, batch and image side. Raises ValueError with one line."""
    if not re.fullmatch(r"\d+x\d+x\d+x\d+", text):
        raise ValueError(f"size: {text!r}; allowed: CHANNELSxCELLSxBATCHxIMAGE, as in 16x8x32x32")
    channels, cells, batch, image = map(int, text.split("x"))
    if channels < 1 or cells < 3 or batch < 4 or batch % 2 or image < 16 or image % 4:
        raise ValueError(
            f"size: {text!r}; allowed: at least 1 channel and 3 cells, an even batch of at least 4, "
            "an image side that is a multiple of 4 and at least 16"
        )
    return channels, cells, batch, image
