"""What a file of tailnas/methods offers.

    Settings                                                # its section of `search`
    search(task, settings) -> SearchResult
    start(bilevel, settings) -> "mixture", "single" or None # the pretrained super-network that it starts from
    mistakes(settings, bilevel, space) -> lines             # settings that do not fit together, for validate
    warnings(settings, training) -> lines                   # what can be computed, and is hardly meant
    require(settings, space, classes, channels)             # raises UserError where a file or the data is unfit
    genotypes(settings) -> genotypes                        # those that it may give, where they are known beforehand

A method without `start` needs no pretrained super-network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tailnas.foundation.extensions import extension
from tailnas.foundation.settings import Section
from tailnas.genotype.genotype import Genotype
from tailnas.search.settings import Bilevel
from tailnas.space.pretrained import Paths
from tailnas.space.settings import Space
from tailnas.training.settings import NetworkTraining

PACKAGE = "tailnas.methods"


def pretrained_mixture(bilevel: Bilevel, settings: Section) -> Paths | None:
    """Start of the searches by gradient: `search.bilevel.initialisation` says whether they are pretrained."""
    return "mixture" if bilevel.initialisation == "pretrained" else None


def starting_paths(method: str, bilevel: Bilevel, settings: Section) -> Paths | None:
    """The paths of the pretrained super-network that `method` starts from; None where it needs none."""
    start = _hook(method, "start")
    paths: Paths | None = None if start is None else start(bilevel, settings)
    return paths


def mistakes_of(method: str, settings: Section, bilevel: Bilevel, space: Space) -> Iterator[str]:
    """One line for each setting of `method` that does not fit another: key, value and what is allowed."""
    hook = _hook(method, "mistakes")
    if hook is not None:
        yield from hook(settings, bilevel, space)


def warnings_of(method: str, settings: Section, training: NetworkTraining) -> Iterator[str]:
    """One line for each setting of `method` that is hardly meant with this training of the search."""
    hook = _hook(method, "warnings")
    if hook is not None:
        yield from hook(settings, training)


def require_method(method: str, settings: Section, space: Space, classes: int | None, channels: int) -> None:
    """Raises UserError naming the key where `method` cannot run: a file that is not there, data that does not suit it.

    classes: of the target, None where they are not known yet; channels: of its images.
    """
    require = _hook(method, "require")
    if require is not None:
        require(settings, space, classes, channels)


def known_genotypes(method: str, settings: Section) -> Sequence[Genotype]:
    """The genotypes that `method` may give, where they are known before it runs; else none."""
    hook = _hook(method, "genotypes")
    known: Sequence[Genotype] = () if hook is None else hook(settings)
    return known


def _hook(method: str, name: str) -> Callable[..., Any] | None:
    """What the file of `method` offers under `name`; None where it offers nothing."""
    return getattr(extension(PACKAGE, method, "study.methods"), name, None)
