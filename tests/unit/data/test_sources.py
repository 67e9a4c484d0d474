import subprocess
import sys
from pathlib import Path

import pytest

from tailnas.data.sources import KINDS, source

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_offers_what_stages_call(kind) -> None:
    module = source(kind)
    assert all(callable(getattr(module, name)) for name in ("load", "train_counts", "class_names"))


def test_counting_needs_no_torch() -> None:
    script = (
        "import sys; from types import SimpleNamespace as N; from tailnas.data.sources import KINDS, source\n"
        "import tailnas.data.splits\n"
        "settings = N(name='x', alphabet='all', train_per_class=4, test_per_class=1)\n"
        "settings.root = settings.url = settings.sha256 = None\n"
        "[source(kind).train_counts(settings) for kind in KINDS if kind != 'folder']; source('folder')\n"
        "print(sorted({'torch', 'torchvision', 'sklearn', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == "[]\n"
