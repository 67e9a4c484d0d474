"""The control with a search's compute: the best of as many random genotypes as that buys.

Each is trained alone, briefly, on the weight half, and measured on the architecture half (method: section 6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tailnas.batches.batches import sequential_batches
from tailnas.foundation.seeding import seed_for
from tailnas.foundation.settings import Count, Section
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.search.candidates import RandomCandidates
from tailnas.search.cost import Cost
from tailnas.search.ranking import rank
from tailnas.search.run import bilevel_cost
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.device import autocast
from tailnas.space.path_costs import candidate_network
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.loop import InnerLoop, require_finite
from tailnas.training.supervised import fit


class Settings(Section):
    """The best of as many random genotypes as a search by gradient costs."""

    budget: Literal["darts", "bbn"] = Field(
        description="The search whose multiply-adds x images it may spend, with these epochs and batches."
    )
    epochs: Count = Field(description="Epochs that each random genotype is trained on the weight half.")


def search(task: SearchTask, settings: Settings) -> SearchResult:
    budget = bilevel_cost(task, 2 if settings.budget == "bbn" else 1).total_multiply_adds
    steps = settings.epochs * task.batches("weight", ["instance"])[0].steps_per_epoch
    spent = affordable(task, settings, budget)
    best, table = rank(
        RandomCandidates(task.candidate_draws()),
        len(spent),
        lambda genotype, index, step_done: trained_score(task, settings, genotype, index, step_done),
        task.loop,
        steps,
    )
    trained, scored = candidate_images(task, settings)
    cost = Cost(
        optimiser_steps=len(spent) * steps,
        trained_images=len(spent) * trained,
        scored_images=len(spent) * scored,
        weights_trained=sum(int(row["parameters"]) for row in table),
        total_multiply_adds=sum(spent),
        details={"candidates": len(spent), "budget_multiply_adds": budget},
    )
    accuracy = float(table[-1]["best_balanced_accuracy"])
    return SearchResult.chosen(best, {"balanced_accuracy": accuracy}, {"candidates": table}, cost)


def affordable(task: SearchTask, settings: Settings, budget: int) -> list[int]:
    """Multiply-adds that each candidate costs, in the order in which they are drawn, until the next exceeds `budget`.

    One at least: a search without a candidate chooses nothing.
    """
    multiply_adds, images = task.path_costs, sum(candidate_images(task, settings))
    candidates, spent = RandomCandidates(task.candidate_draws()), list[int]()
    while True:
        genotype = candidates.propose()
        candidates.tell(genotype, 0.0)
        cost = images * multiply_adds(genotype)
        if spent and sum(spent) + cost > budget:
            return spent
        spent.append(cost)


def candidate_images(task: SearchTask, settings: Settings) -> tuple[int, int]:
    """Images that training one candidate passes, and those that scoring it passes."""
    batches = task.batches("weight", ["instance"])[0]
    trained = settings.epochs * batches.steps_per_epoch * batches.batch_size
    return trained, len(task.architecture_half)


def trained_score(
    task: SearchTask, settings: Settings, genotype: Genotype, index: int, step_done: Callable[[], None]
) -> dict[str, float]:
    """Train the genotype's network from random weights and measure it; a function of the seed and `index` alone."""
    training = task.training
    with seeded_initialisation(seed_for(task.seed, "search", "candidate", index)):
        network = candidate_network(genotype, task.space, task.num_classes, task.weight_half.images.shape[1])
    network.to(task.device)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(images.device, training.precision):
            logits = network(images)
        assert isinstance(logits, Tensor)
        return F.cross_entropy(logits.float(), labels), logits

    loop = InnerLoop("search candidate", step_done)
    history = fit(
        network,
        loss,
        task.batches("weight", ["instance"])[0],
        training.model_copy(update={"epochs": settings.epochs}),
        loop,
        gradient_clip=training.gradient_clip,
    )
    with torch.no_grad():
        network.eval()
        batches = sequential_batches(task.architecture_half, 2 * training.batch_size, task.normalisation)
        logits = torch.cat([network(images) for images, _ in batches])
    require_finite(training, loop.section, float(logits.abs().max()), what="a prediction")
    return {
        "loss": float(history[-1]["loss"]),
        "balanced_accuracy": balanced_accuracy(task.architecture_half.labels, logits.argmax(1), task.num_classes),
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }
