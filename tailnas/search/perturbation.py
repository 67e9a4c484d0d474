"""Perturbation-based selection (DARTS-PT, 2108.04392): a primitive is worth what the super-network loses without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.batches.batches import sequential_batches
from tailnas.data.split_file import HALVES, Half
from tailnas.foundation.seeding import torch_generator
from tailnas.genotype.genotype import CONCAT, Genotype
from tailnas.genotype.primitives import EDGES, NODES, PRIMITIVES, edge_index
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.search.bilevel import Bilevel, mean_losses
from tailnas.search.cost import Cost, mixture_multiply_adds
from tailnas.search.objective import Objective
from tailnas.search.relaxation import Alphas, Relaxation, cells
from tailnas.search.run import bilevel_cost, scales_of
from tailnas.search.steps import StepRunner
from tailnas.search.task import SearchTask
from tailnas.space.supernet import frozen_running_statistics
from tailnas.training.checkpoint import Row
from tailnas.training.learning_rate import cosine_learning_rate
from tailnas.training.loop import require_finite

ROUNDS = EDGES + NODES - 1
"""Each decides one edge's primitive, or two inputs of a node that has more, in every component."""

Score = Callable[[], tuple[float, float]]
"""Of the network as it stands, the larger the better, compared in order: accuracy, then minus the loss."""


class Projected(Relaxation):
    """Another relaxation's weights, with what has been decided put in: decided edges are one-hot, or gone."""

    def __init__(self, base: Relaxation) -> None:
        super().__init__()
        self.base = base
        self.decided: dict[str, Tensor] = {}
        """For each component (14, 8), NaN where nothing has been decided."""

    def parameters(self, components: Any, generator: torch.Generator) -> dict[str, Tensor]:
        return self.base.parameters(components, generator)

    def place(self, parameters: Alphas, seed: int) -> None:
        self.decided = {name: torch.full_like(values, float("nan")) for name, values in cells(parameters).items()}

    def weights(self, alphas: Alphas, half: Half | None) -> dict[str, Tensor]:
        return {
            name: torch.where(self.decided[name].isnan(), weights, self.decided[name])
            for name, weights in self.base.weights(alphas, half).items()
        }

    def state_dict(self) -> dict[str, Any]:
        return dict(self.decided)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, values in self.decided.items():
            values.copy_(state[name])


def without(decided: Tensor, changes: Mapping[int, Callable[[], None]], score: Score) -> dict[int, tuple[float, float]]:
    """The score of the network after each of the changes of `decided` alone."""
    kept, found = decided.clone(), {}
    for key, change in changes.items():
        change()
        found[key] = score()
        decided.copy_(kept)
    return found


def choose_primitive(projected: Projected, component: str, edge: int, weights: Tensor, score: Score) -> int:
    """Decide an edge: of all primitives but `none`, the one without which the network scores worst; ties to the first.

    Algorithm 1 of the paper.
    """
    decided = projected.decided[component]

    def removed(primitive: int) -> Callable[[], None]:
        def change() -> None:
            decided[edge] = weights[edge]
            decided[edge, primitive] = 0

        return change

    scored = without(decided, {p: removed(p) for p in range(1, len(PRIMITIVES))}, score)
    chosen = min(scored, key=lambda primitive: scored[primitive])
    decided[edge] = 0
    decided[edge, chosen] = 1
    return chosen


def choose_inputs(projected: Projected, component: str, node: int, score: Score) -> list[int]:
    """Decide a node: its two inputs without each of which alone the network scores worst; ties to the first."""
    decided = projected.decided[component]

    def gone(source: int) -> Callable[[], None]:
        def change() -> None:
            decided[edge_index(node, source)] = 0

        return change

    scored = without(decided, {source: gone(source) for source in range(node + 2)}, score)
    kept = sorted(sorted(scored, key=lambda source: scored[source])[:2])
    for source in set(scored) - set(kept):
        gone(source)()
    return kept


def decided_genotype(decided: Mapping[str, Tensor]) -> Genotype:
    """The genotype of weights (14, 8) of each component that are all decided."""
    found = {}
    for name, weights in decided.items():
        pairs = []
        for node in range(NODES):
            for source in range(node + 2):
                kept = weights[edge_index(node, source)]
                if kept.any():
                    pairs.append((PRIMITIVES[int(kept.argmax())], source))
        found[name] = tuple(pairs)
    return Genotype.from_dict({**found, "concat": CONCAT})


def perturbation_selection(
    task: SearchTask, objective: Objective, alphas: Alphas, samplers: Sequence[str], epochs: int, searched: Cost
) -> tuple[Genotype, list[Row], Cost]:
    """The genotype, one row per decision, and the cost with that of the search, which ended with `alphas`.

    In each round one edge of each component, in random order, gets its primitive, then, once all have, one node of each
    its two inputs. Between rounds the super-network is tuned for `epochs` epochs, weights and alphas, with a learning
    rate that falls from a tenth of the search's. Scores are on the architecture half, with the statistics of each
    batch; equal accuracies are told apart by the loss (a reading). The mixing ratio of two branches is 1/2 (a reading).
    """
    training = task.training
    projected = Projected(objective.relaxation)
    moving = {name: values.detach().clone() for name, values in alphas.items()}
    projected.place(moving, task.seed)
    objective.relaxation = projected
    objective.set_mixing_ratio(0.5)
    bilevel = Bilevel(objective, moving, training, task.bilevel)
    weight_batches, architecture_batches = (task.batches(half, samplers, "selection") for half in HALVES)
    runner = StepRunner(bilevel, weight_batches, architecture_batches, cuda_graph=task.cuda_graph)
    steps = max(batches.steps_per_epoch for batches in weight_batches)
    generator = torch_generator(task.seed, "search", "selection")
    edges = {name: torch.randperm(EDGES, generator=generator).tolist() for name in projected.decided}
    nodes = {name: (1 + torch.randperm(NODES - 1, generator=generator)).tolist() for name in edges}
    components = ("backbone", "instance_head", "class_head")
    rates = dict.fromkeys(components, task.bilevel.architecture_learning_rate)
    highest = training.learning_rate / 10
    lowest = min(getattr(training.schedule, "minimum", 0.0), highest)

    @torch.no_grad()
    def score() -> tuple[float, float]:
        objective.network.train()
        batches = sequential_batches(task.architecture_half, 2 * training.batch_size, task.normalisation, pairs=True)
        with frozen_running_statistics(objective.network):
            pairs = [(objective.logits(images, bilevel.alphas).float(), labels) for images, labels in batches]
        logits, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
        return balanced_accuracy(labels, logits.argmax(1), task.num_classes), -float(F.cross_entropy(logits, labels))

    def run_round(number: int, step_done: Callable[[], None]) -> Row:
        row: Row = {}
        for name in edges:
            if number < EDGES:
                edge = edges[name][number]
                weights = projected.weights(bilevel.alphas, None)[name].detach()
                row[name] = f"edge {edge}: {PRIMITIVES[choose_primitive(projected, name, edge, weights, score)]}"
            else:
                node = nodes[name][number - EDGES]
                first, second = choose_inputs(projected, name, node, score)
                row[name] = f"node {node}: inputs {first} and {second}"
        for epoch in range(epochs if number < ROUNDS - 1 else 0):
            progress = (number * epochs + epoch) / ((ROUNDS - 1) * epochs)
            bilevel.set_learning_rates(cosine_learning_rate(progress, highest, lowest), rates)
            objective.network.train()
            loss = mean_losses(runner.epoch(steps, step_done))["loss"]
            require_finite(training, task.loop.section, loss, objective.network, scales=scales_of(task, objective))
        accuracy, negative_loss = score()
        scored = scales_of(task, objective)
        require_finite(training, task.loop.section, -negative_loss, what="the loss of predictions", scales=scored)
        row |= {"balanced_accuracy": accuracy, "loss": -negative_loss}
        return row

    parts = {**bilevel.parts(), "decided": projected}
    for half, sources in {"weight": weight_batches, "architecture": architecture_batches}.items():
        parts |= {f"{half}_batches_{branch}": source for branch, source in enumerate(sources)}
    rows = task.loop.part("selection").run(ROUNDS, max(1, epochs * steps), run_round, parts)
    table = [{"round": row["epoch"], **{key: row[key] for key in row if key != "epoch"}} for row in rows]
    objective.relaxation = projected.base
    tuning = replace(task, training=training.model_copy(update={"epochs": max(1, epochs * (ROUNDS - 1))}))
    tuned = bilevel_cost(tuning, objective.branches) if epochs else Cost()
    scored = objective.branches * len(task.architecture_half) * (scores(len(edges)) + ROUNDS)
    shape = task.weight_half.images.shape
    passes = scored * mixture_multiply_adds(task.space, task.num_classes, shape[1], shape[-1])
    cost = replace(
        searched,
        optimiser_steps=searched.optimiser_steps + tuned.optimiser_steps,
        trained_images=searched.trained_images + tuned.trained_images,
        scored_images=searched.scored_images + scored,
        total_multiply_adds=searched.total_multiply_adds + tuned.total_multiply_adds + passes,
    )
    return decided_genotype(projected.decided), table, cost


def scores(components: int) -> int:
    """How often the super-network is scored to decide all edges and nodes."""
    inputs = sum(node + 2 for node in range(1, NODES))
    return components * (EDGES * (len(PRIMITIVES) - 1) + inputs)
