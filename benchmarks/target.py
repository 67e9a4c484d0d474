"""What experiments share: the data of a params.yaml on a device, split as often as they need, and searches on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.dataset import Dataset
from tailnas.data.split_file import HALVES, Split
from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen
from tailnas.methods import imb_nas
from tailnas.pretrain.pretraining import pretrain, train_paths
from tailnas.search.adapt_paths import NotAdapted, TrainedHead, TrainedNetwork
from tailnas.search.task import SearchTask, Source
from tailnas.space.pretrained import Paths
from tailnas.split.long_tail import long_tailed_split
from tailnas.training.loop import InnerLoop, Loop
from tailnas.validate.parameters import Params


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

    def split(self, seed: int) -> Split:
        """The study's own split."""
        settings = self.params.split
        return self._split(settings.profile, self.params.study.imbalance_factors[0], settings.n_max, seed)

    def balanced(self, seed: int, per_class: int) -> Split:
        """As many images of every class."""
        return self._split("exp", 1.0, per_class, seed)

    def _split(self, profile: str, factor: float | str, n_max: int | None, seed: int) -> Split:
        order = self.params.split.class_order
        return long_tailed_split(self.data.train_labels, self.classes, factor, profile, order, n_max, seed)

    def images(self, indices: Any) -> DeviceImages:
        """The training images of `indices`."""
        rows = np.asarray(indices)
        return on_device(self.data.train_images[rows], self.data.train_labels[rows], self.device)

    def test(self) -> DeviceImages:
        return on_device(self.data.test_images, self.data.test_labels, self.device)

    def task(self, seed: int, pretrained: dict[str, Tensor] | None, origin: Source) -> SearchTask:
        """A search on the study's split that shows nothing and keeps no checkpoint."""
        split = self.split(seed)
        weight_half, architecture_half = (self.images(split.half(half)) for half in HALVES)
        return SearchTask(
            training=self.params.search.training,
            augment_architecture_half=self.params.search.augment_architecture_half,
            bilevel=self.params.search.bilevel,
            space=self.params.space,
            weight_half=weight_half,
            architecture_half=architecture_half,
            num_classes=self.classes,
            normalisation=Normalisation.of(weight_half.images),
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
    """Weights of the pretrained super-network; an interruption costs an epoch.

    Raises UserError where single paths are asked for and the parameters have none.
    """
    settings, train, held_out = params.pretrain, origin.train, origin.held_out
    loop = Loop(f"pretrain seed{seed}", folder / f"pretrain{seed}.pt", folder / "events", "lines")
    classes = int(train.labels.max()) + 1
    if paths == "single" and settings.single_path is None:
        raise UserError("pretrain.single_path: null; allowed: a section, since single paths are adapted")
    network, _ = pretrain(settings.training, params.space, train, held_out, classes, seed, loop)
    if paths == "single" and settings.single_path is not None:
        part = loop.part("single-path")
        network, _ = train_paths(settings.training, settings.single_path, network, train, held_out, seed, part)
    return network.state_dict()


def ranking_settings(params: Params, adaptation: str) -> imb_nas.Settings:
    """The settings of `imb_nas` with another adaptation.

    Raises UserError unless the parameters' own is `head`, which has the settings of all.
    """
    settings = params.search.method("imb_nas")
    assert isinstance(settings, imb_nas.Settings)
    head = settings.adaptation
    if not isinstance(head, TrainedHead):
        raise UserError(
            f"search.imb_nas.adaptation.name: {head.name!r}; allowed: 'head', whose settings all others take"
        )
    adaptations = {
        "none": NotAdapted(name="none"),
        "head": head,
        "finetune": TrainedNetwork(name="finetune", beta=head.beta),
        "scratch": TrainedNetwork(name="scratch", beta=head.beta),
    }
    return settings.model_copy(update={"adaptation": adaptations[adaptation]})


def on_device(pixels: np.ndarray, labels: np.ndarray, device: torch.device) -> DeviceImages:
    return DeviceImages(torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device))


def _load(params: Params, chosen: Chosen) -> Dataset:
    data: Dataset = chosen.module.load(chosen.settings, params.data.image_size, params.data.channels)
    return data
