"""tailnas: neural architecture search for long-tailed image data.

The public names below are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailnas.data.splits import class_counts as class_counts
    from tailnas.imbalance.losses import class_balanced_weights as class_balanced_weights
    from tailnas.imbalance.losses import ldam_margins as ldam_margins
    from tailnas.imbalance.mixing import mixing_ratio as mixing_ratio
    from tailnas.imbalance.samplers import reversed_class_probabilities as reversed_class_probabilities
    from tailnas.search.schedules import architecture_learning_rates as architecture_learning_rates
    from tailnas.space.genotype import DARTS_V1 as DARTS_V1
    from tailnas.space.genotype import DARTS_V2 as DARTS_V2
    from tailnas.space.genotype import Genotype as Genotype
    from tailnas.space.genotype import derive_genotype as derive_genotype
    from tailnas.space.network import Network as Network
    from tailnas.space.network import load_model as load_model
    from tailnas.space.supernet import SuperNet as SuperNet

_HOME = {
    "class_counts": "tailnas.data.splits",
    "class_balanced_weights": "tailnas.imbalance.losses",
    "ldam_margins": "tailnas.imbalance.losses",
    "reversed_class_probabilities": "tailnas.imbalance.samplers",
    "mixing_ratio": "tailnas.imbalance.mixing",
    "architecture_learning_rates": "tailnas.search.schedules",
    "derive_genotype": "tailnas.space.genotype",
    "Genotype": "tailnas.space.genotype",
    "DARTS_V1": "tailnas.space.genotype",
    "DARTS_V2": "tailnas.space.genotype",
    "SuperNet": "tailnas.space.supernet",
    "Network": "tailnas.space.network",
    "load_model": "tailnas.space.network",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tailnas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
