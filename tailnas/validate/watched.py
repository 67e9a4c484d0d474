"""What outputs depend on and dvc.yaml cannot name: the installed packages.

`validate` writes them into data/watched/, where the stages find them beside what `watch` notes of the user's folders.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("data/watched")
PACKAGES_FILE = "packages"
PACKAGES = (
    *("torch", "torchvision", "numpy", "pandas", "scikit-learn", "scipy", "matplotlib", "pillow", "safetensors"),
    "jinja2",
)
"""Those that outputs are made with; the others only check, show or record."""


def packages() -> str:
    """Python's version and those of PACKAGES, one a line."""
    lines = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return "\n".join(lines) + "\n"
