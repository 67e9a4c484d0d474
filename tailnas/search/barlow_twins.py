"""A search objective without labels: Barlow Twins (2103.03230) on the features of the super-network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.data.split_file import Half
from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.foundation.settings import NonNegative, Section
from tailnas.imbalance.samplers import make_sampler
from tailnas.search.objective import Alphas, Batch, SingleBranch
from tailnas.search.relaxation import Relaxation
from tailnas.search.run import bilevel_cost, bilevel_search
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.device import autocast
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.training.loop import scales

VIEWS = 2
SAMPLERS = ("instance",)
"""Images as they come: a second branch of reversed batches would need labels."""


def barlow_twins_loss(first: Tensor, second: Tensor, redundancy: float) -> Tensor:
    """sum_i (1 - C_ii)^2 + redundancy * sum_{i != j} C_ij^2 (2103.03230, equations 1 and 2).

    C is the cross-correlation matrix (D, D), over the batch, of two views' embeddings (N, D), N >= 2. A dimension that
    does not vary correlates with nothing.
    """
    first, second = (F.normalize(view - view.mean(0), dim=0) for view in (first, second))
    correlation = first.T @ second
    squares = correlation.square()
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + redundancy * (squares.sum() - squares.diagonal().sum())


def projector(features: int, width: int) -> nn.Sequential:
    """Three linear layers of `width` units, BatchNorm and ReLU after the first two (2103.03230, section 2.2).

    Its BatchNorms have no running statistics: embeddings are needed in training alone.
    """

    def hidden(inputs: int) -> list[nn.Module]:
        return [
            nn.Linear(inputs, width, bias=False),
            nn.BatchNorm1d(width, track_running_stats=False),
            nn.ReLU(inplace=True),
        ]

    return nn.Sequential(*hidden(features), *hidden(width), nn.Linear(width, width, bias=False))


class BarlowTwins(SingleBranch):
    """Barlow Twins on two views of the same images; `network` gets a `projector` of `width` units.

    No label reaches weights or alphas. The classifier is a probe, for the record alone: softmax regression on the
    features, with steps of its own.
    """

    def __init__(
        self,
        network: SuperNet,
        width: int,
        redundancy: float,
        precision: str = "float32",
        relaxation: Relaxation | None = None,
    ) -> None:
        super().__init__(network, precision, relaxation=relaxation)
        self.redundancy = redundancy
        self.projector = projector(network.classifier.in_features, width).to(network.classifier.weight)
        network.add_module("projector", self.projector)  # so that it is trained and checkpointed as a part of it
        network.classifier.requires_grad_(False)

    def loss(self, batches: tuple[Batch, ...], alphas: Alphas, half: Half = "weight") -> dict[str, Tensor]:
        """`batches`: two views of the same images, each with their labels."""
        (first, labels), (second, _) = batches
        with autocast(first.device, self.precision):
            mixture = self.mixture(alphas, half)
            features, others = (self.network.features(images, mixture) for images in (first, second))
            embeddings, other_embeddings = (self.projector(view).float() for view in (features, others))
        if not any(values.requires_grad for values in alphas.values()):  # the step of the weights
            probe_step(self.network.classifier, features.detach().float(), labels)
        return {"loss": barlow_twins_loss(embeddings, other_embeddings, self.redundancy)}


@torch.no_grad()
def probe_step(classifier: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """One step of gradient descent on the cross-entropy of softmax regression, in place.

    Its rate is 2 over the mean of |f|^2 + 1, which bounds the curvature: there is no rate to choose.
    """
    errors = classifier(features).softmax(1) - F.one_hot(labels, classifier.out_features)
    rate = 2 / (features.square().sum(1).mean() + 1)
    classifier.weight.sub_(rate * errors.T @ features / len(features))
    classifier.bias.sub_(rate * errors.mean(0))


@dataclass(frozen=True)
class TwoViews(SearchTask):
    """A search whose batches are views: for each sampler, VIEWS sources that draw the same images and crop differently.

    crop_padding: of the views, in both halves.
    """

    crop_padding: int = 0

    def batches(self, half: Half, samplers: Sequence[str], *phase: str) -> list[Batches]:
        data = self.halves[half]
        augmentation = Augmentation(self.crop_padding, self.training.flip)
        labels, stream = data.labels.cpu(), ("search", *phase, half)
        return [
            Batches(
                data,
                make_sampler(sampler, labels, self.num_classes, torch_generator(self.seed, *stream, "images")),
                self.training.batch_size,
                self.normalisation,
                augmentation,
                torch_generator(self.seed, *stream, "view", view),
            )
            for sampler in samplers
            for view in range(VIEWS)
        ]


class Unlabelled(Section):
    """Barlow Twins on two views of each image, in both halves."""

    projector: Annotated[int, Field(ge=2, le=65536)] = Field(description="Units of the projector's three layers.")
    redundancy: NonNegative = Field(description="lambda, the weight of the squares off the diagonal.")
    crop_padding: Annotated[int, Field(ge=0, le=512)] = Field(
        description="Pixels of the random crops' zero padding that tells two views of an image apart."
    )


def two_views(task: SearchTask, crop_padding: int) -> TwoViews:
    """`task` with two views of each image in the place of a batch."""
    return TwoViews(**{field.name: getattr(task, field.name) for field in fields(task)}, crop_padding=crop_padding)


def unlabelled_search(task: SearchTask, settings: Unlabelled, relaxation: Relaxation | None = None) -> SearchResult:
    """A bilevel search with one branch whose loss is that of Barlow Twins."""
    network = task.single_branch()
    with seeded_initialisation(seed_for(task.seed, "search", "projector")):
        objective = BarlowTwins(network, settings.projector, settings.redundancy, task.training.precision, relaxation)
    objective.scales = scales(settings, ".".join(["search", *task.run[:1]]))
    result = bilevel_search(two_views(task, settings.crop_padding), objective, SAMPLERS)
    del network.projector  # what is left is the super-network that every search writes
    return replace(result, cost=bilevel_cost(task, VIEWS, result.cost.weights_trained))
