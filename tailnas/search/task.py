"""What a search method is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from tailnas.data.augmentation import Augmentation
from tailnas.data.batches import Batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.errors import UserError
from tailnas.imbalance.samplers import make_sampler
from tailnas.search.cost import Cost, PathCosts, path_costs
from tailnas.seeding import seed_for, torch_generator
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet, load_pretrained
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop
from tailnas.training.pretraining import supernet

NetworkType = TypeVar("NetworkType", SuperNet, TwoBranchSuperNet)

if TYPE_CHECKING:
    from tailnas.params import Search, Space


@dataclass(frozen=True)
class Source:
    """The balanced data that the super-network was pretrained on: its training images and its held-out ones."""

    train: DeviceImages
    held_out: DeviceImages


@dataclass(frozen=True)
class SearchTask:
    """Data, settings and start of one search.

    weights, architecture: the two halves on the device. pretrained: weights of a super-network, None for random ones;
    it was trained on the paths that the method needs. source: reads the source, for methods that ask for it.
    """

    settings: Search
    space: Space
    weights: DeviceImages
    architecture: DeviceImages
    num_classes: int
    normalisation: Normalisation
    pretrained: dict[str, Tensor] | None
    seed: int
    loop: Loop
    source: Callable[[], Source] | None = None
    pretrained_file: Path | None = None
    """Where `pretrained` was read, for the error line."""

    @property
    def device(self) -> torch.device:
        return self.weights.device

    @property
    def path_costs(self) -> PathCosts:
        """Multiply-adds of one image through the sub-network of a genotype."""
        shape = self.weights.images.shape
        return path_costs(self.space, self.num_classes, shape[1], shape[-1])

    def single_branch(self) -> SuperNet:
        """A super-network of L + 1 cells: as deep as a two-branch one with its head cell."""
        with seeded_initialisation(seed_for(self.seed, "search", "network")):
            return self._started(supernet(self.space, self.num_classes, self.weights.images.shape[1]))

    def two_branch(self) -> TwoBranchSuperNet:
        """A super-network of L backbone cells and two head cells."""
        with seeded_initialisation(seed_for(self.seed, "search", "network")):
            channels, cells = self.space.channels, self.space.cells
            network = TwoBranchSuperNet(channels, cells, self.num_classes, self.weights.images.shape[1])
            return self._started(network)

    def _started(self, network: NetworkType) -> NetworkType:
        if self.pretrained is not None:
            try:
                load_pretrained(network, self.pretrained)
            except ValueError as error:
                raise UserError(
                    f"{self.pretrained_file}: {error}; allowed: what the pretrain stage writes for this space and data"
                ) from None
        return network.to(self.device)

    def batches(self, half: str, samplers: Sequence[str]) -> list[Batches]:
        """One source of batches for each branch of a half, `weights` or `architecture`."""
        data = self.weights if half == "weights" else self.architecture
        augmentation = Augmentation(self.settings.crop_padding, self.settings.flip) if half == "weights" else None
        labels = data.labels.cpu()
        return [
            Batches(
                data,
                make_sampler(sampler, labels, self.num_classes, torch_generator(self.seed, "search", half, branch)),
                self.settings.batch_size,
                self.normalisation,
                augmentation,
                torch_generator(self.seed, "search", half, branch, "augmentation"),
            )
            for branch, sampler in enumerate(samplers)
        ]


@dataclass(frozen=True)
class SearchResult:
    """alphas: float32 (epochs + 1, 14, 8) of each component; history: one row an epoch; network: the searched one.

    tables: further CSV files by name, such as the candidates that a method has scored. hand_made: the name of a network
    that no search has made; there are no alphas then.
    """

    alphas: dict[str, Tensor]
    history: list[Row]
    network: SuperNet | TwoBranchSuperNet | None
    cost: Cost
    tables: dict[str, list[Row]] = field(default_factory=dict)
    hand_made: str | None = None
