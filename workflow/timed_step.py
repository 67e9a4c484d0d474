"""What the stages of a study will take on this machine, from a few timed steps: `python -m workflow.timed_step`.

Each training is begun as its stage begins it, with its settings and the device, on images of the right size that mean
nothing. Two batches warm it up and two are timed, with the measuring after an epoch; the rest is multiplication. A
method that ranks candidates after a training is timed by the training alone, and one that trains nothing by itself.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.dataset import META_FILE, load_meta
from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen, extension
from tailnas.foundation.settings import NATURAL
from tailnas.foundation.yaml_file import read_yaml
from tailnas.pretrain.pretraining import pretrain, train_paths
from tailnas.retrain.retraining import retrain
from tailnas.search.method import PACKAGE, starting_paths
from tailnas.search.task import SearchTask, Source
from tailnas.space.device import prepare
from tailnas.space.pretrained import supernet
from tailnas.space.random_genotype import random_genotype
from tailnas.split.long_tail import class_counts
from tailnas.training.checkpoint import Row, Stateful
from tailnas.training.loop import InnerLoop, Loop, RunEpoch
from tailnas.validate.apart import RAW
from tailnas.validate.parameters import Params, checked_params

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

BATCHES = 2
OTHERWISE = 1.0
"""Seconds of a stage that trains no network, more or less."""


class Timed(Exception):
    """How long the training would take, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class TimedLoop(InnerLoop):
    """Runs an epoch twice, and ends the training with `Timed` for its epochs, each `scale` times as long."""

    def __init__(self, title: str, scale: float) -> None:
        super().__init__(title, lambda: None)
        self.scale = scale

    def part(self, name: str, section: str | None = None) -> Loop:
        return TimedLoop(f"{self.title} {name}", self.scale)

    def run(
        self,
        epochs: int,
        steps: int,
        run_epoch: RunEpoch,
        parts: Mapping[str, Stateful],
        show: Callable[[SummaryWriter, int], None] | None = None,
        stop: Callable[[Sequence[Row]], bool] | None = None,
    ) -> list[Row]:
        for _ in range(2):
            began = time.monotonic()
            run_epoch(0, self.step_done)
        raise Timed(epochs * self.scale * (time.monotonic() - began))


def timed(training: Callable[[], object]) -> float:
    """Seconds that a training with a `TimedLoop` would take, or that something else has taken."""
    began = time.monotonic()
    try:
        training()
    except Timed as found:
        return found.seconds
    return time.monotonic() - began


@dataclass(frozen=True)
class Sizes:
    """Training images of a set, its classes, and how many images are measured after each epoch."""

    images: int
    classes: int
    measured: int

    def stand_in(
        self, params: Params, batch_size: int, device: torch.device
    ) -> tuple[DeviceImages, DeviceImages, float]:
        """Images of a few batches, as many to measure in proportion, and how many times fewer they are than there."""
        few = BATCHES * batch_size * -(-self.classes // batch_size)
        scale = self.images / few
        return self._noise(params, few, device), self._noise(params, round(self.measured / scale), device), scale

    def _noise(self, params: Params, count: int, device: torch.device) -> DeviceImages:
        count = max(count, self.classes)
        shape = (count, params.data.channels, params.data.image_size, params.data.image_size)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return DeviceImages(images.to(device), (torch.arange(count) % self.classes).to(device))


def seconds_of_stages(params: Params) -> dict[str, float]:
    """Mean seconds of each kind of stage."""
    device = prepare(params.runtime.device, params.runtime.threads, params.pretrain.training.precision)
    source, target = (
        _sizes(params.data.source),
        [_long_tailed(params, factor) for factor in params.study.imbalance_factors],
    )
    kinds = ("watch", "fetch", "split", "derive", "adapt", "evaluate", "export", "report")
    retraining = _mean(_retraining(params, sizes, device) for sizes in target)
    return {
        **dict.fromkeys(kinds, OTHERWISE),
        "pretrain": OTHERWISE + _pretraining(params, source, device),
        "search": OTHERWISE
        + _mean(_search(params, method, sizes, device) for method in params.study.methods for sizes in target),
        "retrain": OTHERWISE + retraining,
        "calibrate": OTHERWISE + params.calibrate.networks * retraining,
    }


def _pretraining(params: Params, sizes: Sizes, device: torch.device) -> float:
    settings, paths = params.pretrain.training, params.pretrain.single_path
    train, held_out, scale = sizes.stand_in(params, settings.batch_size, device)
    loop = TimedLoop("pretrain", scale)
    seconds = timed(lambda: pretrain(settings, params.space, train, held_out, sizes.classes, 0, loop))
    if paths is not None:
        begun = settings.model_copy(update={"epochs": 1})
        network, _ = pretrain(
            begun, params.space, train, held_out, sizes.classes, 0, InnerLoop("pretrain", lambda: None)
        )
        seconds += timed(lambda: train_paths(settings, paths, network, train, held_out, 0, loop))
    return seconds


def _search(params: Params, method: str, sizes: Sizes, device: torch.device) -> float:
    settings = params.search.method(method)
    half = Sizes(sizes.images // 2, sizes.classes, sizes.images // 2)
    weights, architecture, scale = half.stand_in(params, params.search.training.batch_size, device)
    paths = starting_paths(method, params.search.bilevel, settings)
    network = supernet(params.space, sizes.classes, params.data.channels)
    task = SearchTask(
        training=params.search.training,
        augment_architecture_half=params.search.augment_architecture_half,
        bilevel=params.search.bilevel,
        space=params.space,
        weight_half=weights,
        architecture_half=architecture,
        num_classes=sizes.classes,
        normalisation=Normalisation.of(weights.images),
        pretrained=network.state_dict() if paths else None,
        seed=0,
        loop=TimedLoop("search", scale),
        source=lambda: Source(weights, architecture),
        cuda_graph=params.runtime.cuda_graph,
    )
    module = extension(PACKAGE, method, "study.methods")
    return timed(lambda: module.search(task, settings))


def _retraining(params: Params, sizes: Sizes, device: torch.device) -> float:
    data, _, scale = sizes.stand_in(params, params.retrain.training.batch_size, device)
    genotype, loop = random_genotype(torch.Generator().manual_seed(0)), TimedLoop("retrain", scale)
    normal = Normalisation.of(data.images)
    return timed(lambda: retrain(params.retrain, genotype, data, normal, sizes.classes, 0, loop))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))


def _train_counts(data: Chosen) -> list[int]:
    """As the data set is described, else as it was fetched. Raises UserError where it was not."""
    counts: list[int] | None = data.module.train_counts(data.settings)
    folder = RAW / data.settings.name
    if counts is None and not (folder / META_FILE).exists():
        raise UserError(f"{folder}: not fetched; how many images it has is known only then")
    return [*load_meta(folder).train_counts] if counts is None else counts


def _sizes(data: Chosen) -> Sizes:
    counts = _train_counts(data)
    tested = getattr(data.settings, "test_per_class", None)
    return Sizes(sum(counts), len(counts), len(counts) * tested if isinstance(tested, int) else sum(counts) // 5)


def _long_tailed(params: Params, factor: int | float | str) -> Sizes:
    """The training images that the split leaves."""
    split, counts = params.split, _train_counts(params.data.target)
    if factor != NATURAL and split.profile != NATURAL:
        counts = class_counts(split.n_max or min(counts), len(counts), float(factor), split.profile)
    return Sizes(sum(counts), len(counts), 0)


if __name__ == "__main__":
    try:
        print(json.dumps(seconds_of_stages(checked_params(read_yaml(Path("params.yaml")), "params.yaml"))))
    except UserError as error:
        sys.exit(str(error))
