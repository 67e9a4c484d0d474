"""A bilevel search from its first to its last epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tailnas.data.batches import sequential_batches
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.imbalance.mixing import epoch_time, mixing_ratio
from tailnas.search.bilevel import Bilevel, mean_losses
from tailnas.search.collapse import hessian_eigenvalue, warnings
from tailnas.search.cost import Cost, mixture_multiply_adds
from tailnas.search.objective import Objective, TwoBranch
from tailnas.search.record import AlphaRecord
from tailnas.search.schedules import architecture_learning_rates
from tailnas.search.steps import StepRunner
from tailnas.search.sweep import mixing_ratio_sweep
from tailnas.search.task import SearchResult, SearchTask
from tailnas.seeding import torch_generator
from tailnas.space.supernet import initial_alphas
from tailnas.training.checkpoint import Row
from tailnas.training.loop import require_finite
from tailnas.training.schedules import cosine_learning_rate

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def bilevel_search(
    task: SearchTask,
    objective: Objective,
    samplers: Sequence[str],
    *,
    heads: str = "constant",
    backbone: str = "constant",
) -> SearchResult:
    """Search with `objective`, its batches drawn by `samplers` (one a branch) in both halves.

    heads, backbone: learning-rate schedules of the architecture components (see `architecture_learning_rates`).
    """
    settings = task.settings
    alphas = initial_alphas(objective.components, torch_generator(task.seed, "search", "alphas"))
    alphas = {name: values.to(task.device) for name, values in alphas.items()}
    bilevel = Bilevel(objective, alphas, settings)
    record = AlphaRecord(alphas)
    weight_batches = task.batches("weights", samplers)
    architecture_batches = task.batches("architecture", samplers)
    runner = StepRunner(bilevel, weight_batches, architecture_batches, cuda_graph=settings.cuda_graph)
    steps = max(batches.steps_per_epoch for batches in weight_batches)

    fixed = task.batches("architecture", samplers) if settings.hessian else []
    watched = tuple(next(batches.epoch(1)) for batches in fixed)

    def run_epoch(epoch: int, step_done: Callable[[], None]) -> Row:
        t = epoch_time(epoch, settings.epochs, settings.mixing_time)
        row: Row = {}
        if objective.branches == 2:
            row["mixing_ratio"] = mixing_ratio(settings.mixing_schedule, t, m=settings.mixing_constant)
            objective.set_mixing_ratio(float(row["mixing_ratio"]))
        rates = architecture_learning_rates(
            t,
            settings.architecture_learning_rate,
            float(row.get("mixing_ratio", 0.5)),
            heads,
            backbone,
            power=settings.hls_power,
        )
        rate = cosine_learning_rate(epoch / settings.epochs, settings.learning_rate, settings.learning_rate_min)
        bilevel.set_learning_rates(rate, rates)
        components = ("backbone", "instance_head", "class_head") if objective.branches == 2 else ("backbone",)
        row |= {"lr_weights": rate} | {f"lr_{name}": rates[name] for name in components}

        objective.network.train()
        row |= mean_losses(runner.epoch(steps, step_done))
        require_finite("search", float(row["loss"]) + float(row["architecture_loss"]))
        record.append(bilevel.alphas)
        row["balanced_accuracy"] = architecture_accuracy(task, objective, bilevel.alphas)
        if watched:
            row["hessian_eigenvalue"] = hessian_eigenvalue(objective, bilevel.alphas, watched)
        return {**row, **record.summary()}

    parts = {**bilevel.parts(), "record": record}
    for half, sources in {"weights": weight_batches, "architecture": architecture_batches}.items():
        parts |= {f"{half}_batches_{branch}": source for branch, source in enumerate(sources)}

    def show(writer: SummaryWriter, epoch: int) -> None:
        for name, values in record.rows[-1].items():
            writer.add_image(f"alphas/{name}", heat_map(values), epoch)

    history = task.loop.run(settings.epochs, steps, run_epoch, parts, show)
    for line in warnings(history):
        print(f"{task.loop.title}: {line}", flush=True)
    tables = {}
    if isinstance(objective, TwoBranch):
        tables["mixing_ratio"] = mixing_ratio_sweep(task, objective, bilevel.alphas)
    trained = sum(weight.numel() for weight in bilevel.weights)
    cost = bilevel_cost(task, objective.branches, trained)
    return SearchResult(record.stacked(), history, objective.network, cost, tables)


def bilevel_cost(task: SearchTask, branches: int, weights_trained: int = 0) -> Cost:
    """Cost of a bilevel search with these settings; each image goes through one branch of `branches`.

    A step passes a batch of each half; the second order passes that of the weight half three times more.
    """
    settings = task.settings
    weights, architecture = (task.batches(half, ["instance"])[0] for half in ("weights", "architecture"))
    steps = settings.epochs * weights.steps_per_epoch
    passes = (1 if settings.order == "first" else 4) * weights.batch_size + architecture.batch_size
    images = branches * steps * passes
    shape = task.weights.images.shape
    return Cost(
        optimiser_steps=2 * steps,
        trained_images=images,
        weights_trained=weights_trained,
        total_multiply_adds=images * mixture_multiply_adds(task.space, task.num_classes, shape[1], shape[-1]),
    )


@torch.no_grad()
def architecture_accuracy(task: SearchTask, objective: Objective, alphas: Mapping[str, Tensor]) -> float:
    """Balanced accuracy on the architecture half, in eval mode; the alphas have seen this half."""
    objective.network.eval()
    batches = sequential_batches(task.architecture, 2 * task.settings.batch_size, task.normalisation)
    pairs = [(objective.logits(images, alphas).argmax(1), labels) for images, labels in batches]
    predictions, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
    return balanced_accuracy(predictions, labels, task.num_classes)


def heat_map(alphas: Tensor, scale: int = 16) -> Tensor:
    """Softmax weights of alphas (14, 8) as a grey picture (1, 14 * scale, 8 * scale), white the largest."""
    weights = alphas.float().softmax(-1)
    return (weights / weights.max()).repeat_interleave(scale, 0).repeat_interleave(scale, 1)[None]
