"""How a single-path super-network gets from the balanced source to the imbalanced target (IMB-NAS, 2210.00136).

`head`: backbone frozen, a new linear head trained with the re-weighted loss, the paper's best. `finetune`: all weights,
with that loss; `scratch`: the same from random weights (both readings; method: section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.data.batches import sequential_batches
from tailnas.imbalance.losses import class_balanced_weights
from tailnas.imbalance.samplers import Sampler, make_sampler
from tailnas.search.cost import Cost
from tailnas.search.task import SearchTask
from tailnas.seeding import torch_generator
from tailnas.space.path import path_features, path_statistics
from tailnas.space.random_genotype import random_genotype
from tailnas.space.supernet import SuperNet
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop
from tailnas.training.paths import single_path_loss
from tailnas.training.supervised import GeneratorState, fit


def adapt_paths(
    task: SearchTask, network: SuperNet, statistics: Sequence[Tensor], loop: Loop
) -> tuple[list[Row], Cost]:
    """Adapt `network` in place by `search.adaptation`, which is not `none`. Returns one row an epoch, and the cost.

    statistics: batches of the weight half on which BatchNorm statistics of a path are estimated.
    """
    if task.settings.adaptation == "head":
        return train_head(task, network, statistics, loop)
    return train_all(task, network, loop)


def train_all(task: SearchTask, network: SuperNet, loop: Loop) -> tuple[list[Row], Cost]:
    """Train all weights on the weight half, one random path a step."""
    settings = task.settings
    paths = torch_generator(task.seed, "search", "path")
    batches = task.batches("weights", ["instance"])[0]
    history = fit(
        network,
        single_path_loss(network, paths, reweighted_loss(task), settings.precision),
        batches,
        settings,
        loop,
        gradient_clip=settings.gradient_clip,
        parts={"path": GeneratorState(paths)},
    )
    multiply_adds, again = task.path_costs, torch_generator(task.seed, "search", "path")
    steps = settings.epochs * batches.steps_per_epoch
    return history, Cost(
        optimiser_steps=steps,
        trained_images=steps * batches.batch_size,
        weights_trained=sum(weight.numel() for weight in network.parameters()),
        total_multiply_adds=batches.batch_size * sum(multiply_adds(random_genotype(again)) for _ in range(steps)),
    )


def train_head(task: SearchTask, network: SuperNet, statistics: Sequence[Tensor], loop: Loop) -> tuple[list[Row], Cost]:
    """Train the classifier alone; features of `search.head_paths` random paths are computed once."""
    settings = task.settings
    generator = torch_generator(task.seed, "search", "path")
    paths = [random_genotype(generator) for _ in range(settings.head_paths)]
    features = []
    for path in paths:
        with torch.no_grad(), path_statistics(network, path, statistics):
            batched = sequential_batches(task.weights, 2 * settings.batch_size, task.normalisation)
            features.append(torch.cat([path_features(network, path, images) for images, _ in batched]))
    labels = task.weights.labels
    sampler = make_sampler(
        "instance", labels.cpu(), task.num_classes, torch_generator(task.seed, "search", "weights", 0)
    )
    batches = PathFeatureBatches(torch.stack(features), labels, sampler, settings.batch_size, generator)
    head, criterion = network.classifier, reweighted_loss(task)

    def loss(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(inputs)
        return criterion(logits, targets), logits

    history = fit(head, loss, batches, settings, loop, gradient_clip=settings.gradient_clip)
    multiply_adds = task.path_costs
    passed = len(labels) + sum(map(len, statistics))
    return history, Cost(
        optimiser_steps=settings.epochs * batches.steps_per_epoch,
        scored_images=len(paths) * passed,
        weights_trained=sum(weight.numel() for weight in head.parameters()),
        total_multiply_adds=passed * sum(map(multiply_adds, paths)),
    )


def reweighted_loss(task: SearchTask) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy with the class-balanced weights of the weight half."""
    counts = torch.bincount(task.weights.labels, minlength=task.num_classes).cpu()
    weights = class_balanced_weights(counts, task.settings.beta).to(task.device)
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
