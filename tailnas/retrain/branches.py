"""Retraining with one branch, or with BBN's two (Zhou et al. 2020, 1912.02413; method: section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tailnas.imbalance.mixing import epoch_ratio
from tailnas.imbalance.samplers import Sampler, class_probabilities
from tailnas.retrain.reweighting import MixedLabels, ReweightedLoss
from tailnas.retrain.settings import BilateralBranches, Retrain, SingleBranch
from tailnas.space.device import autocast
from tailnas.space.network import Network
from tailnas.training.supervised import TrainingBatches

Labels = Tensor | MixedLabels


class Source(Protocol):
    """Makes the batches of a branch."""

    def __call__(self, branch: str, sampler: str | float, view: str = "", /) -> tuple[TrainingBatches, Sampler]:
        """Batches drawn by `sampler`, and the sampler itself. Views of a branch are the same images otherwise
        augmented.
        """


class Branches(Protocol):
    """How a step's loss comes about."""

    @property
    def module(self) -> nn.Module:
        """What is trained: the network, with whatever the loss alone needs."""

    @property
    def batches(self) -> TrainingBatches: ...

    def loss(self, inputs: Any, targets: Any, /) -> tuple[Tensor, Tensor]:
        """The scalar loss and the logits (N, K) it came from."""

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Tell how far training is; `epoch` counts from 0."""

    def assumed_prior(self, counts: Tensor) -> Tensor:
        """Class frequencies (K,), of any scale, that predictions assume after training on `counts` (K,) images."""


class OneBranch:
    """One batch of the chosen sampler, with the auxiliary head's loss where the network has one."""

    def __init__(
        self, settings: Retrain, network: Network, reweighted: ReweightedLoss, source: Source, seed: int
    ) -> None:
        assert isinstance(settings.branches, SingleBranch)
        self.settings, self.network, self.reweighted = settings, network, reweighted
        self.module: nn.Module = network
        batches, self._sampler = source("", settings.branches.sampler)
        self.batches: TrainingBatches = batches

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self._sampler.set_epoch(epoch, epochs)

    def assumed_prior(self, counts: Tensor) -> Tensor:
        """As the last epochs draw classes and weigh them."""
        assert isinstance(self.settings.branches, SingleBranch)
        sampler = self.settings.branches.sampler
        kind = "class_balanced" if sampler in ("progressively_balanced", "class_aware") else sampler
        return self.reweighted.assumed_prior(class_probabilities(kind, counts))

    def loss(self, images: Tensor, targets: Labels) -> tuple[Tensor, Tensor]:
        with autocast(images.device, self.settings.training.precision):
            outputs = self.network(images)
        if isinstance(outputs, tuple):
            logits, auxiliary = outputs
            extra = self.settings.network.auxiliary_weight * self.reweighted.auxiliary(auxiliary.float(), targets)
            return self.reweighted(logits.float(), targets) + extra, logits
        return self.reweighted(outputs.float(), targets), outputs


@dataclass(frozen=True)
class PairedLabels:
    """Labels of an instance batch and of a class batch; the accuracy goes by the former."""

    instance: Labels
    klass: Labels

    @property
    def labels(self) -> Tensor:
        return self.instance if isinstance(self.instance, Tensor) else self.instance.labels


class PairedBatches:
    """An instance batch beside a class batch in every step."""

    def __init__(self, instance: TrainingBatches, klass: TrainingBatches) -> None:
        self.instance, self.klass = instance, klass

    @property
    def steps_per_epoch(self) -> int:
        return self.instance.steps_per_epoch

    def epoch(self) -> Iterator[tuple[tuple[Tensor, Tensor], PairedLabels]]:
        """((images_i, images_c), labels) of the next pass over the instance batches."""
        for (images_i, labels_i), (images_c, labels_c) in zip(self.instance.epoch(), self.klass.epoch(), strict=True):
            yield (images_i, images_c), PairedLabels(labels_i, labels_c)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {"instance": self.instance.state_dict(), "klass": self.klass.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.instance.load_state_dict(state["instance"])
        self.klass.load_state_dict(state["klass"])


class TwoBranches:
    """mu L(z, y_i) + (1 - mu) L(z, y_c) of an instance-balanced and a reversed batch; mu follows the schedule."""

    def __init__(
        self, settings: Retrain, network: Network, reweighted: ReweightedLoss, source: Source, seed: int
    ) -> None:
        assert isinstance(settings.branches, BilateralBranches)
        self.mixing, self.precision = settings.branches.mixing, settings.training.precision
        self.network, self.reweighted = network, reweighted
        self.module: nn.Module = network
        instance, _ = source("", "instance")
        klass, _ = source("class branch", "reversed")
        self.batches: TrainingBatches = PairedBatches(instance, klass)
        self.mixing_ratio = 1.0

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.mixing_ratio = epoch_ratio(self.mixing, epoch, epochs)

    def assumed_prior(self, counts: Tensor) -> Tensor:
        """Uniform (a reading): a prediction adds half the logits of each branch, and their log frequencies, those of
        instances and of reversed classes, cancel.
        """
        return torch.ones_like(counts, dtype=torch.float64)

    def loss(self, images: tuple[Tensor, Tensor], targets: PairedLabels) -> tuple[Tensor, Tensor]:
        mu = self.mixing_ratio
        with autocast(images[0].device, self.precision):
            logits = self.network.mixed_logits(*images, mu)
        exact = logits.float()
        value = mu * self.reweighted(exact, targets.instance) + (1 - mu) * self.reweighted(exact, targets.klass)
        return value, logits
