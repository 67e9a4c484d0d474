"""What a search minimises: one branch's loss, or the mixed loss of two branches (method: sections 3 and 4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.data.split_file import Half
from tailnas.search.relaxation import Alphas, Relaxation
from tailnas.space.device import autocast
from tailnas.space.supernet import MixtureWeights, SuperNet
from tailnas.space.two_branch import Mix, TwoBranchSuperNet

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and labels (N,)."""


class Objective(ABC):
    """A network with its loss. A step's batches are one for each branch. `relaxation`: what it makes of alphas."""

    network: SuperNet | TwoBranchSuperNet
    branches: int
    precision: str
    relaxation: Relaxation
    draws: bool = True
    """Whether a loss has a relaxation's random draws, or the expected weights."""
    scales: Mapping[str, float] = MappingProxyType({})
    """Keys by which a method scales the loss, and their values: for the line that says that it diverged."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the alphas that the network takes."""
        return self.network.components

    @abstractmethod
    def loss(self, batches: tuple[Batch, ...], alphas: Alphas, half: Half = "weight") -> dict[str, Tensor]:
        """The scalar `loss` and, for the record, the parts that it is made of. `half`: where the batches are from."""

    @abstractmethod
    def logits(self, images: Tensor, alphas: Alphas) -> Tensor:
        """Scores (N, K) of images for evaluation."""

    @abstractmethod
    def backbone(self) -> list[nn.Module]:
        """The modules that `freeze_backbone` freezes: stem and all cells but the last one or the heads."""

    def mixture(self, alphas: Alphas, half: Half | None = None) -> MixtureWeights:
        """The mixture weights of a loss on a batch of `half`; None for evaluation."""
        return MixtureWeights(self.relaxation.weights(alphas, half if self.draws else None))

    def set_mixing_ratio(self, ratio: float) -> None:  # noqa: B027 - one branch mixes nothing
        """Weight of the instance branch from now on."""


class SingleBranch(Objective):
    """Cross-entropy of one network. `class_weights`: for each half the weights (K,) of its classes, None for ones."""

    branches = 1

    def __init__(
        self,
        network: SuperNet,
        precision: str = "float32",
        class_weights: Mapping[Half, Tensor] | None = None,
        relaxation: Relaxation | None = None,
    ) -> None:
        self.network: SuperNet = network
        self.precision = precision
        self.relaxation = relaxation or Relaxation()
        self.class_weights = class_weights or {}

    def loss(self, batches: tuple[Batch, ...], alphas: Alphas, half: Half = "weight") -> dict[str, Tensor]:
        ((images, labels),) = batches
        with autocast(images.device, self.precision):
            logits = self.network(images, self.mixture(alphas, half))
        return {"loss": F.cross_entropy(_exact(logits), labels, weight=self.class_weights.get(half))}

    def logits(self, images: Tensor, alphas: Alphas) -> Tensor:
        return self.network(images, self.mixture(alphas))

    def backbone(self) -> list[nn.Module]:
        return [self.network.stem, *list(self.network.cells)[:-1]]


class TwoBranch(Objective):
    """mu CE(z, y_i) + (1 - mu) CE(z, y_c) of the mixed outputs z (BBN, 1912.02413, equation 3; HLS, 2406.07028).

    The mixing ratio is a tensor on the network's device, so that a step recorded once runs with every ratio.
    """

    branches = 2

    def __init__(
        self,
        network: TwoBranchSuperNet,
        mix: Mix = "logits",
        precision: str = "float32",
        relaxation: Relaxation | None = None,
    ) -> None:
        self.network: TwoBranchSuperNet = network
        self.mix = mix
        self.precision = precision
        self.relaxation = relaxation or Relaxation()
        self.mixing_ratio = torch.tensor(0.5, device=network.bias.device, dtype=network.bias.dtype)

    def loss(self, batches: tuple[Batch, ...], alphas: Alphas, half: Half = "weight") -> dict[str, Tensor]:
        (images_i, labels_i), (images_c, labels_c) = batches
        mu = self.mixing_ratio
        with autocast(images_i.device, self.precision):
            outputs = _exact(self.network(images_i, images_c, self.mixture(alphas, half), mu, self.mix))
        instance, klass = F.cross_entropy(outputs, labels_i), F.cross_entropy(outputs, labels_c)
        return {"loss": mu * instance + (1 - mu) * klass, "instance_loss": instance, "class_loss": klass}

    def logits(self, images: Tensor, alphas: Alphas) -> Tensor:
        return self.network.predict_logits(images, self.mixture(alphas), 0.5, self.mix)

    def set_mixing_ratio(self, ratio: float) -> None:
        self.mixing_ratio.fill_(ratio)

    def backbone(self) -> list[nn.Module]:
        return [self.network.stem, *self.network.cells]


def _exact(logits: Tensor) -> Tensor:
    """At least float32: a softmax over bfloat16 scores would lose the small classes."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
