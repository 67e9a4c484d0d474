"""A bilevel search from its first to its last epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tailnas.batches.batches import sequential_batches
from tailnas.data.split_file import HALVES
from tailnas.foundation.seeding import torch_generator
from tailnas.genotype.genotype import HEADS
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.imbalance.mixing import epoch_ratio, epoch_time
from tailnas.imbalance.settings import ConstantRatio, MovingRatio
from tailnas.search.architecture_rates import CONSTANT, NamedRate, PolynomialRate, architecture_learning_rates
from tailnas.search.bilevel import Bilevel, mean_losses
from tailnas.search.collapse import hessian_eigenvalue, warnings
from tailnas.search.cost import Cost, mixture_multiply_adds
from tailnas.search.objective import Objective, TwoBranch
from tailnas.search.picture import alphas_picture
from tailnas.search.record import AlphaRecord, softmax_movement
from tailnas.search.relaxation import Relaxation, cells
from tailnas.search.steps import StepRunner
from tailnas.search.sweep import mixing_ratio_sweep
from tailnas.search.task import SearchResult, SearchTask
from tailnas.training.checkpoint import Row
from tailnas.training.learning_rate import epoch_learning_rate
from tailnas.training.loop import require_finite

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def bilevel_search(
    task: SearchTask,
    objective: Objective,
    samplers: Sequence[str],
    mixing: MovingRatio | ConstantRatio | None = None,
    *,
    heads: str = "constant",
    backbone: NamedRate | PolynomialRate = CONSTANT,
    stop: Callable[[Sequence[Row]], bool] | None = None,
) -> SearchResult:
    """Search with `objective`, its batches drawn by `samplers` (one per branch) in both halves.

    mixing: the ratio of two branches. heads, backbone: learning rates of the architecture components (see
    `architecture_learning_rates`). stop: whether the history so far ends the search.
    """
    training, epochs, relaxation = task.training, task.training.epochs, objective.relaxation
    alphas = relaxation.parameters(objective.components, torch_generator(task.seed, "search", "alphas"))
    alphas = {name: values.to(task.device) for name, values in alphas.items()}
    relaxation.place(alphas, task.seed)
    bilevel = Bilevel(objective, alphas, training, task.bilevel)
    record = AlphaRecord(relaxation.recorded(alphas))
    started = {name: values.detach().clone() for name, values in cells(alphas).items()}
    weight_batches = task.batches("weight", samplers)
    architecture_batches = task.batches("architecture", samplers)
    runner = StepRunner(bilevel, weight_batches, architecture_batches, cuda_graph=task.cuda_graph)
    steps = max(batches.steps_per_epoch for batches in weight_batches)

    fixed = task.batches("architecture", samplers) if task.bilevel.hessian else []
    watched = tuple(next(batches.epoch(1)) for batches in fixed)

    def run_epoch(epoch: int, step_done: Callable[[], None]) -> Row:
        row: Row = {}
        if mixing is not None:
            row["mixing_ratio"] = epoch_ratio(mixing, epoch, epochs)
            objective.set_mixing_ratio(float(row["mixing_ratio"]))
        rates = architecture_learning_rates(
            epoch_time(epoch, epochs, "midpoint" if mixing is None else mixing.time),
            task.bilevel.architecture_learning_rate,
            float(row.get("mixing_ratio", 0.5)),
            heads,
            backbone.schedule,
            power=backbone.power if isinstance(backbone, PolynomialRate) else 1.0,
        )
        rate = epoch_learning_rate(training, epoch)
        bilevel.set_learning_rates(rate, rates)
        bilevel.resting = epoch < resting_epochs(relaxation, epochs)
        relaxation.start_epoch(epoch / epochs, steps)
        components = ["backbone", *(name for name in objective.components if name in HEADS)]
        row |= {"lr_weights": rate} | {f"lr_{name}": rates[name] for name in components}

        for source in (*weight_batches, *architecture_batches):
            source.sampler.set_epoch(epoch, epochs)
        objective.network.train()
        row |= mean_losses(runner.epoch(steps, step_done))
        losses = float(row["loss"]) + float(row["architecture_loss"])
        scales, architecture = scales_of(task, objective), bilevel.alphas.values()
        require_finite(training, task.loop.section, losses, objective.network, scales=scales, more=architecture)
        record.append(relaxation.recorded(bilevel.alphas))
        row["balanced_accuracy"] = architecture_accuracy(task, objective, bilevel.alphas)
        if watched:
            value, products = hessian_eigenvalue(objective, bilevel.alphas, watched)
            row |= {"hessian_eigenvalue": value, "hessian_products": products}
        moved = softmax_movement(started, cells(bilevel.alphas))
        return {**row, **relaxation.columns(), **record.summary(), "softmax_movement": moved}

    parts = {**bilevel.parts(), "record": record, **relaxation.parts()}
    for half, sources in {"weight": weight_batches, "architecture": architecture_batches}.items():
        parts |= {f"{half}_batches_{branch}": source for branch, source in enumerate(sources)}

    def show(writer: SummaryWriter, epoch: int) -> None:
        for name, values in record.rows[-1].items():
            writer.add_image(f"search/alphas {name}", alphas_picture(values), epoch, dataformats="HWC")

    history = task.loop.run(epochs, steps, run_epoch, parts, show, stop)
    for line in warnings(history):
        print(f"{task.loop.title}: {line}", flush=True)
    tables = {}
    relaxation.strength.fill_(relaxation.schedule((len(history) - 1) / epochs))  # a finished run starts no epoch
    if isinstance(objective, TwoBranch):
        tables["mixing_ratio"] = mixing_ratio_sweep(task, objective, bilevel.alphas)
    trained = sum(weight.numel() for weight in bilevel.weights)
    cost = bilevel_cost(task, objective.branches, trained, relaxation, len(history))
    return SearchResult(history, cost, tables, alphas=record.stacked(), network=objective.network)


def bilevel_cost(
    task: SearchTask,
    branches: int,
    weights_trained: int = 0,
    relaxation: Relaxation | None = None,
    epochs: int | None = None,
) -> Cost:
    """Cost of a bilevel search with these settings; each image goes through one branch of `branches`.

    A step passes a batch of each half; the second order passes that of the weight half three times more. While the
    alphas rest, a step moves the weights alone and passes the batch of the architecture half forward only. epochs:
    those done, by default all.
    """
    relaxation = relaxation or Relaxation()
    weights, architecture = (task.batches(half, ["instance"])[0] for half in HALVES)
    done = task.training.epochs if epochs is None else epochs
    resting = min(done, resting_epochs(relaxation, task.training.epochs)) * weights.steps_per_epoch
    steps = done * weights.steps_per_epoch - resting
    passes = (1 if task.bilevel.order == "first" else 4) * weights.batch_size + architecture.batch_size
    trained = branches * (steps * passes + resting * weights.batch_size)
    scored = branches * resting * architecture.batch_size
    shape = task.weight_half.images.shape
    multiply_adds = mixture_multiply_adds(task.space, task.num_classes, shape[1], shape[-1], relaxation.partial)
    return Cost(
        optimiser_steps=2 * steps + resting,
        trained_images=trained,
        scored_images=scored,
        weights_trained=weights_trained,
        total_multiply_adds=(trained + scored) * multiply_adds,
    )


def resting_epochs(relaxation: Relaxation, epochs: int) -> int:
    """Epochs at the beginning in which the alphas rest."""
    return int(relaxation.warm_up * epochs)


def scales_of(task: SearchTask, objective: Objective) -> dict[str, float]:
    """Keys beside those of the weights' training that can be at fault where a search diverges."""
    return {"search.bilevel.architecture_learning_rate": task.bilevel.architecture_learning_rate, **objective.scales}


@torch.no_grad()
def architecture_accuracy(task: SearchTask, objective: Objective, alphas: Mapping[str, Tensor]) -> float:
    """Balanced accuracy on the architecture half, in eval mode; the alphas have seen this half."""
    objective.network.eval()
    batches = sequential_batches(task.architecture_half, 2 * task.training.batch_size, task.normalisation)
    pairs = [(objective.logits(images, alphas), labels) for images, labels in batches]
    logits, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
    largest, scales = float(logits.abs().max()), scales_of(task, objective)
    require_finite(task.training, task.loop.section, largest, what="a prediction", scales=scales)
    return balanced_accuracy(labels, logits.argmax(1), task.num_classes)
