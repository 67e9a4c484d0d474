"""What will not fit into memory, told from params.yaml and the numbers of images, before anything is computed.

Every figure is a lower bound: what is refused cannot be computed on this machine. What fits by these figures may still
be too large, which the stage says in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch

from tailnas.foundation.errors import UserError, spoken_size
from tailnas.foundation.extensions import extension
from tailnas.foundation.machine import memory
from tailnas.foundation.settings import Section
from tailnas.genotype.genotype import HAND_MADE, Genotype
from tailnas.genotype.primitives import EDGES, NODES
from tailnas.retrain.retraining import network_builder
from tailnas.retrain.settings import NetworkShape
from tailnas.retrain.width import parameter_count
from tailnas.search.method import PACKAGE, pretrained_mixture
from tailnas.space.pretrained import supernet
from tailnas.space.settings import Space

if TYPE_CHECKING:
    from tailnas.validate.parameters import Params

NUMBER = 4
"""Bytes of a float32."""
COPIES = 3
"""Weights, their gradients, and the momentum of SGD."""
MIXED, CHOSEN = 4 * EDGES, 4 * NODES
"""Maps that a cell of the super-network and one of a network keep for the backward pass, at least."""


class Images(NamedTuple):
    """Training images and classes of source and target, as far as known without fetching. half: those of a search half,
    the smallest of the study; train: those of a retraining, likewise.
    """

    source: int | None
    half: int | None
    train: int | None
    classes: int | None


class Need(NamedTuple):
    """Bytes of what the keys ask for."""

    keys: str
    what: str
    bytes: float


def require_memory(params: Params, images: Images) -> None:
    """Raises UserError, one line with the keys, for the first thing that this machine's memory cannot hold."""
    room = memory()
    for need in _needs(params, images):
        if need.bytes > room:
            raise UserError(
                f"params.yaml: {need.keys}: {need.what} takes {spoken_size(need.bytes)} at least; "
                f"allowed: at most this machine's memory ({spoken_size(room)})"
            )


def _needs(params: Params, images: Images) -> Iterator[Need]:
    space, classes = params.space, images.classes or 2
    with torch.device("meta"):
        network = supernet(space, classes, params.data.channels)
    keys = _keys(_of(space, "space", "channels", "cells"))
    yield Need(keys, "the super-network", COPIES * NUMBER * parameter_count(network))
    yield from _retrained(params, classes)
    for method in params.study.methods:
        yield from _method(method, params.search.method(method), images, network.classifier.in_features)
    yield Need("data.target", f"the confusion matrix of {classes} classes", 8 * classes**2)
    if _on_cpu(params.runtime.device):
        yield from _steps(params, images)


def _steps(params: Params, images: Images) -> Iterator[Need]:
    """Maps that a training step keeps for its backward pass."""
    space, shape = params.space, params.retrain.network
    step: dict[str, tuple[int, Space | NetworkShape, str, int | None]]
    step = {"pretrain": (MIXED, space, "space", images.source)}
    if any(_by_gradient(method) for method in params.study.methods):
        step["search"] = (MIXED, space, "space", images.half)
    if shape.channels is not None and _searched(params):
        step["retrain"] = (CHOSEN, shape, "retrain.network", images.train)
    for stage, (kept, section, name, count) in step.items():
        size = getattr(params, stage).training.batch_size
        size = size if count is None else min(size, count)
        keys = {f"{stage}.training.batch_size": size, "data.image_size": params.data.image_size}
        assert section.channels is not None
        maps = _maps(kept, section.cells + 1, section.channels, params.data.image_size)
        keys |= _of(section, name, "channels", "cells")
        yield Need(_keys(keys), "a training step", NUMBER * size * maps)


def _searched(params: Params) -> bool:
    """Whether some network has the cells and channels that `retrain.network` says."""
    return not set(params.study.methods) <= {*HAND_MADE, "given"}


def _by_gradient(method: str) -> bool:
    """Whether a search trains the super-network as a mixture."""
    return getattr(extension(PACKAGE, method, "study.methods"), "start", None) is pretrained_mixture


def _retrained(params: Params, classes: int) -> Iterator[Need]:
    """The network of a genotype that has nothing but pooling, and what is trained beside it."""
    shape, branches = params.retrain.network, params.retrain.branches
    edges = (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * NODES
    if not _searched(params):
        return
    if shape.channels is None:
        assert shape.parameters is not None
        yield Need(f"retrain.network.parameters: {shape.parameters}", "the network", COPIES * NUMBER * shape.parameters)
        return
    with torch.device("meta"):
        network = network_builder(params.retrain, Genotype(edges, edges), classes, params.data.channels)(
            shape.channels, False
        )
    keys = _keys(_of(shape, "retrain.network", "channels", "cells"))
    yield Need(keys, "the network", COPIES * NUMBER * parameter_count(network))
    sizes = {key: getattr(branches, key) for key in ("hidden", "projection") if hasattr(branches, key)}
    if sizes:
        keys = _keys({f"retrain.branches.{key}": size for key, size in sizes.items()})
        weights = network.classifier.in_features * max(sizes.values()) + sizes.get("hidden", 0) * sizes["projection"]
        yield Need(keys, "the projector", COPIES * NUMBER * weights)


def _method(name: str, settings: Section, images: Images, features: int) -> Iterator[Need]:
    width = getattr(settings, "projector", None)
    if isinstance(width, int):
        weights = width * (features + 2 * width)
        yield Need(f"search.{name}.projector: {width}", "the projector", COPIES * NUMBER * weights)
    paths = getattr(getattr(settings, "adaptation", None), "paths", None)
    if isinstance(paths, int) and images.half is not None:
        keys = f"search.{name}.adaptation.paths: {paths}"
        yield Need(keys, f"the features of {images.half} images", NUMBER * paths * images.half * features)


def _maps(kept: int, cells: int, channels: int, image_size: int) -> float:
    """Numbers that one image leaves in a network whose cells keep `kept` maps each."""
    reductions = (cells // 3, 2 * cells // 3)
    numbers, width, side = 0.0, channels, image_size
    for cell in range(cells):
        if cell in reductions:
            width, side = 2 * width, side // 2
        numbers += kept * width * side**2
    return numbers


def _of(section: Section, name: str, *keys: str) -> dict[str, int]:
    return {f"{name}.{key}": getattr(section, key) for key in keys}


def _keys(numbers: Mapping[str, int]) -> str:
    first, *others = [
        f"{key}{': ' if place == 0 else ' '}{number}" for place, (key, number) in enumerate(numbers.items())
    ]
    return f"{first} with {', '.join(others)}" if others else first


def _on_cpu(device: str) -> bool:
    return device == "cpu" or (device == "auto" and not torch.cuda.is_available())
