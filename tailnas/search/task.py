"""What a search method is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.split_file import Half
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.samplers import make_sampler
from tailnas.search.cost import Cost
from tailnas.search.settings import Bilevel
from tailnas.space.path_costs import PathCosts, path_costs
from tailnas.space.pretrained import supernet, two_branch_supernet
from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet, load_pretrained
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop
from tailnas.training.settings import NetworkTraining

NetworkType = TypeVar("NetworkType", SuperNet, TwoBranchSuperNet)

STREAMS: dict[Half, str] = {"weight": "weights", "architecture": "architecture"}
"""Names of the halves' random streams; the published results were drawn under them."""


@dataclass(frozen=True)
class Source:
    """The balanced data that the super-network was pretrained on: its training images and its held-out ones."""

    train: DeviceImages
    held_out: DeviceImages


@dataclass(frozen=True)
class SearchTask:
    """Data, common settings and start of one search.

    weight_half, architecture_half: on the device. pretrained: weights of a super-network, None for random ones;
    it was trained on the paths that the method needs. source: reads the source, for methods that ask for it.
    """

    training: NetworkTraining
    augment_architecture_half: bool
    """Whether batches of the architecture half are cropped and flipped as those of the weight half are."""
    bilevel: Bilevel
    space: Space
    weight_half: DeviceImages
    architecture_half: DeviceImages
    num_classes: int
    normalisation: Normalisation
    pretrained: dict[str, Tensor] | None
    seed: int
    loop: Loop
    source: Callable[[], Source] | None = None
    pretrained_file: Path | None = None
    """Where `pretrained` was read, for the error line."""
    cuda_graph: bool = False
    """Whether steps on a GPU are recorded and replayed."""
    run: tuple[str, ...] = ()
    """Method, imbalance factor and data set: what tells this search's candidates from those of others with its seed."""

    @property
    def device(self) -> torch.device:
        return self.weight_half.device

    @property
    def halves(self) -> dict[Half, DeviceImages]:
        return {"weight": self.weight_half, "architecture": self.architecture_half}

    @property
    def path_costs(self) -> PathCosts:
        """Multiply-adds of one image through the sub-network of a genotype."""
        shape = self.weight_half.images.shape
        return path_costs(self.space, self.num_classes, shape[1], shape[-1])

    def candidate_draws(self) -> torch.Generator:
        """The generator of candidate genotypes, one of its own for each `run` and seed."""
        return torch_generator(self.seed, "search", "candidates", *self.run)

    def single_branch(self, *, partial: int = 1, own_head: bool = False) -> SuperNet:
        """A super-network of L + 1 cells: as deep as a two-branch one with its head cell."""
        channels = self.weight_half.images.shape[1]
        with seeded_initialisation(seed_for(self.seed, "search", "network")):
            return self._started(supernet(self.space, self.num_classes, channels, partial=partial, own_head=own_head))

    def two_branch(self, *, partial: int = 1) -> TwoBranchSuperNet:
        """A super-network of L backbone cells and two head cells."""
        channels = self.weight_half.images.shape[1]
        with seeded_initialisation(seed_for(self.seed, "search", "network")):
            return self._started(two_branch_supernet(self.space, self.num_classes, channels, partial=partial))

    def _started(self, network: NetworkType) -> NetworkType:
        if self.pretrained is not None:
            try:
                load_pretrained(network, self.pretrained)
            except ValueError as error:
                raise UserError(
                    f"{self.pretrained_file}: {error}; allowed: what the pretrain stage writes for this space and data"
                ) from None
        return network.to(self.device)

    def batches(self, half: Half, samplers: Sequence[str], *phase: str) -> list[Batches]:
        """One source of batches for each branch of a half. phase: of a method that has another after the search."""
        data = self.halves[half]
        augmented = half == "weight" or self.augment_architecture_half
        augmentation = Augmentation(self.training.crop_padding, self.training.flip) if augmented else None
        labels = data.labels.cpu()
        stream = (*phase, STREAMS[half])
        return [
            Batches(
                data,
                make_sampler(sampler, labels, self.num_classes, torch_generator(self.seed, "search", *stream, branch)),
                self.training.batch_size,
                self.normalisation,
                augmentation,
                torch_generator(self.seed, "search", *stream, branch, "augmentation"),
            )
            for branch, sampler in enumerate(samplers)
        ]


@dataclass(frozen=True)
class SearchResult:
    """What a search found: alphas, from which `derive` reads a genotype, or the genotype itself, or both: then `derive`
    takes the genotype.

    history: one row per epoch. tables: further CSV files by name, such as the candidates that a method has scored.
    alphas: float32 (epochs + 1, 14, 8) of each component. network: the searched one, where there is one.
    """

    history: list[Row]
    cost: Cost
    tables: dict[str, list[Row]] = field(default_factory=dict)
    alphas: dict[str, Tensor] | None = None
    genotype: Genotype | None = None
    network: SuperNet | TwoBranchSuperNet | None = None

    @classmethod
    def chosen(
        cls,
        genotype: Genotype,
        measured: Mapping[str, float] | None = None,
        tables: Mapping[str, list[Row]] | None = None,
        cost: Cost | None = None,
    ) -> SearchResult:
        """Of a method that chooses a genotype and trains no alphas: one row of history, epoch 0.

        measured: columns of that row. tables: what led to the choice. cost: nothing was computed if None.
        """
        found = genotype.in_order()
        row: Row = {"epoch": 0, **(measured or {}), "genotype": found.to_line()}
        return cls([row], cost or Cost(), dict(tables or {}), genotype=found)
