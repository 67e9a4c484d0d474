"""Mistakes that need more than one section to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tailnas.fetch.source import shared_images
from tailnas.foundation.errors import short
from tailnas.genotype.genotype import HAND_MADE, Genotype
from tailnas.genotype.primitives import NODES
from tailnas.retrain.loss import loss_class
from tailnas.retrain.retraining import network_builder
from tailnas.retrain.reweighting import deferred
from tailnas.retrain.settings import Retrain, SingleBranch
from tailnas.retrain.width import TOLERANCE, smallest_size
from tailnas.search.method import starting_paths

if TYPE_CHECKING:
    from tailnas.validate.parameters import Params


def mistakes(params: Params) -> Iterator[str]:
    """One line each: key, value and what is allowed."""
    yield from _data(params)
    yield from _trainings(params)
    yield from _search(params)
    yield from _retrain(params)


def _data(params: Params) -> Iterator[str]:
    source, target = params.data.source, params.data.target
    if source.settings.name == target.settings.name:
        name = target.settings.name
        yield f"data.target.name: {name!r} is also data.source.name; allowed: two different names"
    if shared := shared_images(target, source):
        yield f"data.target.{shared} as data.source; allowed: source and target that share no image"
    if params.split.profile == "natural" and len(params.study.imbalance_factors) > 1:
        yield (
            f"study.imbalance_factors: {short(params.study.imbalance_factors)} with split.profile 'natural'; "
            "allowed: one entry, since the data keeps its own"
        )


def _trainings(params: Params) -> Iterator[str]:
    size = params.data.image_size
    for section in ("pretrain", "search", "retrain"):
        training = getattr(params, section).training
        key = f"{section}.training"
        if training.precision != "float32" and params.runtime.device == "cpu":
            yield f"{key}.precision: {training.precision!r} with runtime.device 'cpu'; allowed: 'float32' on a CPU"
        if training.crop_padding >= size:
            yield f"{key}.crop_padding: {training.crop_padding}; allowed: less than data.image_size ({size})"
    path, end = params.pretrain.single_path, params.pretrain.training.learning_rate_min
    if path is not None and end > path.learning_rate:
        yield (
            f"pretrain.single_path.learning_rate: {path.learning_rate}; "
            f"allowed: at least pretrain.training.learning_rate_min ({end})"
        )


def _search(params: Params) -> Iterator[str]:
    bilevel, epochs = params.search.bilevel, params.search.training.epochs
    if isinstance(params.derive.epoch, int) and params.derive.epoch > epochs:
        yield f"derive.epoch: {params.derive.epoch}; allowed: 'last' or 1 to search.training.epochs ({epochs})"
    if bilevel.freeze_backbone and bilevel.initialisation == "scratch":
        yield (
            "search.bilevel.freeze_backbone: true with search.bilevel.initialisation 'scratch'; "
            "allowed: true with 'pretrained' only"
        )
    for method in params.study.methods:
        paths = starting_paths(method, bilevel, params.search.method(method))
        if paths == "single" and params.pretrain.single_path is None:
            yield (
                f"pretrain.single_path: null with study.methods entry {method!r}; "
                "allowed: a section, since the method starts from single paths"
            )


def _retrain(params: Params) -> Iterator[str]:
    retrain, size = params.retrain, params.data.image_size
    if retrain.branches.name == "two":
        found = {
            "loss.name": (retrain.loss.name, "cross_entropy"),
            "reweighting.when": (retrain.reweighting.when, "never"),
            "network.auxiliary_weight": (retrain.network.auxiliary_weight, 0),
        }
        for key, (value, needed) in found.items():
            if value != needed:
                yield f"retrain.{key}: {short(value)} with retrain.branches.name 'two'; allowed: {short(needed)}"
    if isinstance(retrain.branches, SingleBranch):
        yield from _corrected_twice(retrain, retrain.branches.sampler)
    epochs = retrain.training.epochs
    if retrain.reweighting.when == "deferred" and all(deferred(epoch, epochs) for epoch in range(epochs)):
        yield (
            f"retrain.reweighting.when: 'deferred' with retrain.training.epochs {epochs}, where it never begins; "
            "allowed: from 5 epochs"
        )
    yield from _too_few_parameters(params)
    if retrain.augmentation.cutout > size:
        yield f"retrain.augmentation.cutout: {retrain.augmentation.cutout}; allowed: at most data.image_size ({size})"
    if retrain.network.auxiliary_weight > 0 and size != 32:
        yield (
            f"retrain.network.auxiliary_weight: {retrain.network.auxiliary_weight} with data.image_size {size}; "
            "allowed: 0, since the auxiliary head needs 32 (a map of 8x8)"
        )


def _too_few_parameters(params: Params) -> Iterator[str]:
    """A budget below that of any network of this depth, whatever a search finds: pooling has no parameters."""
    retrain = params.retrain
    if retrain.network.parameters is None:
        return
    cell = (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * NODES
    for method in params.study.methods:
        genotype = Genotype(network=method) if method in HAND_MADE else Genotype(cell, cell)
        least = _least(retrain, genotype, params.data.channels)
        if retrain.network.parameters * (1 + TOLERANCE) < least:
            yield (
                f"retrain.network.parameters: {retrain.network.parameters} with retrain.network.cells "
                f"{retrain.network.cells} and study.methods entry {method!r}; allowed: at least {least}"
            )
            return


def _least(retrain: Retrain, genotype: Genotype, channels: int) -> int:
    """Parameters of the narrowest network of `genotype` for two classes."""
    build = network_builder(retrain, genotype, 2, channels)
    return smallest_size(lambda width: build(width, False))


def _corrected_twice(retrain: Retrain, sampler: str) -> Iterator[str]:
    """Two of loss, sampler and re-weighting that each make classes count alike."""
    corrections = {
        f"retrain.loss.name: {retrain.loss.name!r}": loss_class(retrain.loss).corrects_class_sizes,
        f"retrain.branches.sampler: {sampler!r}": sampler != "instance",
        f"retrain.reweighting.when: {retrain.reweighting.when!r}": retrain.reweighting.when != "never",
    }
    first, *others = [text for text, corrects in corrections.items() if corrects] or [""]
    if others:
        yield f"{first} with {' and '.join(others)} corrects for class sizes twice; allowed: one of them"
