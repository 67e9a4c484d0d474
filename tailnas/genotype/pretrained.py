"""What a frozen network is: an architecture of another package and the file of its weights, known by its content."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

PACKAGES = ("torchvision", "timm")


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network whose features are used as they are.

    package, architecture: what builds it. weights: its file, sha256 that file's checksum. image_size: side in pixels of
    the images that it wants. mean, std: of each colour, of pixel values from 0 to 1. Raises ValueError.
    """

    package: str
    architecture: str
    weights: str
    sha256: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        wrong = {
            "package": self.package not in PACKAGES,
            "architecture": not re.fullmatch(r"[A-Za-z0-9_.]+", self.architecture),
            "sha256": not re.fullmatch(r"[0-9a-f]{64}", self.sha256),
            "image_size": not 16 <= self.image_size <= 4096,
            "mean": len(self.mean) != 3 or not all(map(math.isfinite, self.mean)),
            "std": len(self.std) != 3 or not all(0 < value < math.inf for value in self.std),
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"genotype.pretrained.{name}: {getattr(self, name)!r}; allowed: that of search.frozen")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_dict(content: Any) -> Pretrained:
        """The inverse of to_dict. Raises ValueError with one line."""
        names = [field.name for field in fields(Pretrained)]
        if not isinstance(content, dict) or set(content) != set(names):
            raise ValueError(f"genotype.pretrained: {content!r}; allowed: an object with {', '.join(names)}")
        try:
            return Pretrained(**content)
        except TypeError as error:
            raise ValueError(f"genotype.pretrained: {error}; allowed: what the derive stage writes") from None
