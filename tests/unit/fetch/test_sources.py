import subprocess
import sys
from pathlib import Path

import pytest

from tailnas.foundation.extensions import extension, names

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", names("tailnas.sources"))
def test_every_kind_offers_what_stages_call(kind) -> None:
    module = extension("tailnas.sources", kind, "kind")
    assert all(callable(getattr(module, name)) for name in ("load", "train_counts", "class_names"))


def test_counting_needs_no_torch() -> None:
    script = (
        "import sys, tailnas.split.long_tail\n"
        "from tailnas.sources import cifar10, cifar100, digits, folder, glyphs\n"
        "digits.train_counts(digits.Settings(name='x', test_per_class=1, seed=0))\n"
        "glyphs.train_counts(glyphs.Settings(name='x', alphabet='all', train_per_class=4, test_per_class=1, seed=0))\n"
        "[c.train_counts(c.Settings(name='x', root=None, url=None, sha256=None)) for c in (cifar10, cifar100)]\n"
        "print(sorted({'torch', 'torchvision', 'sklearn', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout == "[]\n"
