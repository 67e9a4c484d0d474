"""tailnas: neural architecture search for long-tailed image data.

The public names below are loaded when first used, so that importing the package costs nothing.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tailnas.foundation.uncaught import say_in_one_line

if sys.argv[:1] == ["-m"]:  # one of our commands, which is being looked for: `python -m tailnas.predict`
    say_in_one_line()

if TYPE_CHECKING:
    from tailnas.genotype.genotype import DARTS_V1 as DARTS_V1
    from tailnas.genotype.genotype import DARTS_V2 as DARTS_V2
    from tailnas.genotype.genotype import Genotype as Genotype
    from tailnas.genotype.genotype import derive_genotype as derive_genotype
    from tailnas.imbalance.class_weights import class_balanced_weights as class_balanced_weights
    from tailnas.imbalance.mixing import mixing_ratio as mixing_ratio
    from tailnas.imbalance.samplers import reversed_class_probabilities as reversed_class_probabilities
    from tailnas.losses.ldam import ldam_margins as ldam_margins
    from tailnas.predict.classifier import load_model as load_model
    from tailnas.search.architecture_rates import architecture_learning_rates as architecture_learning_rates
    from tailnas.space.network import Network as Network
    from tailnas.space.supernet import SuperNet as SuperNet
    from tailnas.split.long_tail import class_counts as class_counts

_HOME = {
    "class_counts": "tailnas.split.long_tail",
    "class_balanced_weights": "tailnas.imbalance.class_weights",
    "ldam_margins": "tailnas.losses.ldam",
    "reversed_class_probabilities": "tailnas.imbalance.samplers",
    "mixing_ratio": "tailnas.imbalance.mixing",
    "architecture_learning_rates": "tailnas.search.architecture_rates",
    "derive_genotype": "tailnas.genotype.genotype",
    "Genotype": "tailnas.genotype.genotype",
    "DARTS_V1": "tailnas.genotype.genotype",
    "DARTS_V2": "tailnas.genotype.genotype",
    "SuperNet": "tailnas.space.supernet",
    "Network": "tailnas.space.network",
    "load_model": "tailnas.predict.classifier",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tailnas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
