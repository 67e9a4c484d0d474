"""How a single-path super-network gets from the balanced source to the imbalanced target (IMB-NAS, 2210.00136).

`head`: backbone frozen, a new linear head trained with the re-weighted loss, the paper's best. `finetune`: all weights,
with that loss; `scratch`: the same from random weights (both readings; method: section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tailnas.batches.batches import sequential_batches
from tailnas.foundation.seeding import torch_generator
from tailnas.foundation.settings import Fraction, Section
from tailnas.imbalance.class_weights import class_balanced_weights
from tailnas.imbalance.samplers import Sampler, make_sampler
from tailnas.search.cost import Cost
from tailnas.search.task import SearchTask
from tailnas.space.path import path_features, path_statistics
from tailnas.space.random_genotype import random_genotype
from tailnas.space.supernet import SuperNet
from tailnas.training.checkpoint import Row
from tailnas.training.single_path import single_path_loss
from tailnas.training.supervised import GeneratorState, fit


class NotAdapted(Section):
    """The super-network does not get to the target; the source ranks."""

    name: Literal["none"]


class TrainedHead(Section):
    """Backbone frozen, linear head retrained with the re-weighted loss."""

    name: Literal["head"]
    paths: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="Paths whose features the head is trained on; each is computed once."
    )
    beta: Fraction = Field(description="beta of the class-balanced weights of the weight half.")


class TrainedNetwork(Section):
    """All weights trained with the re-weighted loss: the pretrained ones (finetune) or random ones (scratch)."""

    name: Literal["finetune", "scratch"] = Field(description="finetune, or scratch.")
    beta: Fraction = Field(description="beta of the class-balanced weights of the weight half.")


PathAdaptation = Annotated[NotAdapted | TrainedHead | TrainedNetwork, Field(discriminator="name")]


def adapt_paths(
    settings: TrainedHead | TrainedNetwork,
    task: SearchTask,
    network: SuperNet,
    statistics: Sequence[Tensor],
) -> tuple[list[Row], Cost]:
    """Adapt `network` in place. Returns one row per epoch, and the cost.

    statistics: batches of the weight half on which BatchNorm statistics of a path are estimated.
    """
    if isinstance(settings, TrainedHead):
        return train_head(settings, task, network, statistics)
    return train_all(settings, task, network)


def train_all(settings: TrainedNetwork, task: SearchTask, network: SuperNet) -> tuple[list[Row], Cost]:
    """Train all weights on the weight half, one random path per step."""
    training = task.training
    paths = torch_generator(task.seed, "search", "path")
    batches = task.batches("weight", ["instance"])[0]
    history = fit(
        network,
        single_path_loss(network, paths, reweighted_loss(task, settings.beta), training.precision),
        batches,
        training,
        task.loop,
        gradient_clip=training.gradient_clip,
        parts={"path": GeneratorState(paths)},
    )
    multiply_adds, again = task.path_costs, torch_generator(task.seed, "search", "path")
    steps = training.epochs * batches.steps_per_epoch
    return history, Cost(
        optimiser_steps=steps,
        trained_images=steps * batches.batch_size,
        weights_trained=sum(weight.numel() for weight in network.parameters()),
        total_multiply_adds=batches.batch_size * sum(multiply_adds(random_genotype(again)) for _ in range(steps)),
    )


def train_head(
    settings: TrainedHead, task: SearchTask, network: SuperNet, statistics: Sequence[Tensor]
) -> tuple[list[Row], Cost]:
    """Train the classifier alone; features of `settings.paths` random paths are computed once."""
    training = task.training
    generator = torch_generator(task.seed, "search", "path")
    paths = [random_genotype(generator) for _ in range(settings.paths)]
    features = []
    for path in paths:
        with torch.no_grad(), path_statistics(network, path, statistics):
            batched = sequential_batches(task.weight_half, 2 * training.batch_size, task.normalisation)
            features.append(torch.cat([path_features(network, path, images) for images, _ in batched]))
    labels = task.weight_half.labels
    sampler = make_sampler(
        "instance", labels.cpu(), task.num_classes, torch_generator(task.seed, "search", "weights", 0)
    )
    batches = PathFeatureBatches(torch.stack(features), labels, sampler, training.batch_size, generator)
    head, criterion = network.classifier, reweighted_loss(task, settings.beta)

    def loss(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(inputs)
        return criterion(logits, targets), logits

    history = fit(head, loss, batches, training, task.loop, gradient_clip=training.gradient_clip)
    multiply_adds = task.path_costs
    passed = len(labels) + sum(map(len, statistics))
    return history, Cost(
        optimiser_steps=training.epochs * batches.steps_per_epoch,
        scored_images=len(paths) * passed,
        weights_trained=sum(weight.numel() for weight in head.parameters()),
        total_multiply_adds=passed * sum(map(multiply_adds, paths)),
    )


def reweighted_loss(task: SearchTask, beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy with the class-balanced weights of the weight half."""
    counts = torch.bincount(task.weight_half.labels, minlength=task.num_classes).cpu()
    weights = class_balanced_weights(counts, beta).to(task.device)
    return lambda logits, labels: F.cross_entropy(logits, labels, weight=weights)


class PathFeatureBatches:
    """Batches of features (P, N, D) of N images along P paths: each batch along one path, drawn from `generator`."""

    def __init__(
        self, features: Tensor, labels: Tensor, sampler: Sampler, batch_size: int, generator: torch.Generator
    ) -> None:
        self.features, self.labels, self.sampler, self.generator = features, labels, sampler, generator
        self.batch_size = min(batch_size, len(labels))

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.labels) // self.batch_size)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.sampler.epoch(self.steps_per_epoch, self.batch_size).to(self.features.device)
        paths = torch.randint(len(self.features), (len(rows),), generator=self.generator).tolist()
        return ((self.features[path][step], self.labels[step]) for path, step in zip(paths, rows, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.sampler.state_dict(), "paths": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["paths"])
        self.sampler.load_state_dict({name: value for name, value in state.items() if name != "paths"})
