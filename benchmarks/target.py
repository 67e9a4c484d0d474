"""What experiments share: the data of a params.yaml on a device, split as often as they need, and searches on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tailnas.data.dataset import Dataset
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.data.sources import source
from tailnas.data.splits import SplitResult, long_tailed_split
from tailnas.params import Params
from tailnas.search.task import SearchTask, Source
from tailnas.training.loop import InnerLoop, Loop
from tailnas.training.pretraining import Paths, pretrain, train_paths

if TYPE_CHECKING:
    from tailnas.params import Search


@dataclass(frozen=True)
class Target:
    """The target's images, split by the study's first imbalance factor unless another is asked for."""

    params: Params
    device: torch.device
    data: Dataset

    @staticmethod
    def load(params: Params, device: torch.device) -> Target:
        return Target(params, device, _load(params, params.data.target))

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    def split(self, seed: int, factor: float | None = None, n_max: int | None = None) -> SplitResult:
        """Without a factor the study's own split."""
        settings = self.params.split
        if factor is None:
            factor, n_max = self.params.study.imbalance_factors[0], settings.n_max
        return long_tailed_split(self.data.train_labels, self.classes, factor, "exp", settings.class_order, n_max, seed)

    def images(self, indices: Any) -> DeviceImages:
        """The training images of `indices`."""
        rows = np.asarray(indices)
        return on_device(self.data.train_images[rows], self.data.train_labels[rows], self.device)

    def test(self) -> DeviceImages:
        return on_device(self.data.test_images, self.data.test_labels, self.device)

    def task(self, settings: Search, seed: int, pretrained: dict[str, Tensor] | None, origin: Source) -> SearchTask:
        """A search on the study's split that shows nothing and keeps no checkpoint."""
        split = self.split(seed)
        weights, architecture = (self.images(split.part(half)) for half in ("weights", "architecture"))
        return SearchTask(
            settings=settings,
            space=self.params.space,
            weights=weights,
            architecture=architecture,
            num_classes=self.classes,
            normalisation=Normalisation.of(weights.images),
            pretrained=pretrained,
            seed=seed,
            loop=InnerLoop("search", lambda: None),
            source=lambda: origin,
        )


def balanced_source(params: Params, device: torch.device) -> Source:
    """The data that super-networks are pretrained on."""
    data = _load(params, params.data.source)
    return Source(
        on_device(data.train_images, data.train_labels, device), on_device(data.test_images, data.test_labels, device)
    )


def pretrained(params: Params, origin: Source, seed: int, paths: Paths, folder: Path) -> dict[str, Tensor]:
    """Weights of the pretrained super-network; an interruption costs an epoch."""
    settings, train, held_out = params.pretrain, origin.train, origin.held_out
    loop = Loop(f"pretrain seed{seed}", folder / f"pretrain{seed}.pt", folder / "events", "lines")
    classes = int(train.labels.max()) + 1
    network, _ = pretrain(settings, params.space, train, held_out, classes, seed, loop)
    if paths == "single":
        network, _ = train_paths(settings, network, train, held_out, seed, loop.part("single-path"))
    return network.state_dict()


def on_device(pixels: np.ndarray, labels: np.ndarray, device: torch.device) -> DeviceImages:
    return DeviceImages(torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device))


def _load(params: Params, description: Any) -> Dataset:
    return source(description.kind).load(description, params.data.image_size, params.data.channels)
