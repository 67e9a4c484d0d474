"""Training of a classifier: SGD with momentum along a schedule, one checkpoint per epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tailnas.training.checkpoint import Row, Stateful
from tailnas.training.learning_rate import epoch_learning_rate
from tailnas.training.loop import Loop, require_finite
from tailnas.training.settings import Training


class Targets(Protocol):
    """More than labels, such as those of mixed images: `labels` (N,) are what the accuracy goes by."""

    @property
    def labels(self) -> Tensor: ...


class TrainingBatches(Stateful, Protocol):
    """An endless source of epochs of (inputs, labels or targets)."""

    @property
    def steps_per_epoch(self) -> int: ...

    def epoch(self) -> Iterator[tuple[Any, Tensor | Targets]]: ...


Loss = Callable[[Any, Any], tuple[Tensor, Tensor]]
"""Inputs and labels (or targets) to the scalar loss and the logits (N, K) it came from."""


def fit(
    network: nn.Module,
    loss: Loss,
    batches: TrainingBatches,
    settings: Training,
    loop: Loop,
    *,
    gradient_clip: float | None = None,
    undecayed: Sequence[nn.Parameter] = (),
    parts: Mapping[str, Stateful] | None = None,
    start_epoch: Callable[[int], None] = lambda epoch: None,
    after_step: Callable[[], None] = lambda: None,
    measure: Callable[[], Mapping[str, float]] = dict,
    scales: Mapping[str, float] | None = None,
) -> list[Row]:
    """Train `network` for `settings.epochs` epochs; returns one row per epoch: learning rate, mean loss, accuracy.

    loss: called on every batch with the network in training mode. gradient_clip: largest norm. undecayed: weights
    of the network without weight decay. parts: further state for the checkpoint. start_epoch: called with each epoch's
    number from 0. after_step: called after each step, to project weights. measure: more columns, after each epoch.
    The accuracy is that of the training batches as they were seen. scales: as `require_finite` takes them, which looks
    at the loss and the weights after each epoch.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    free = {id(weight) for weight in undecayed}
    groups: list[dict[str, Any]] = [{"params": [weight for weight in weights if id(weight) not in free]}]
    if free:
        groups.append({"params": [weight for weight in weights if id(weight) in free], "weight_decay": 0.0})
    optimiser = torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        foreach=True,
    )

    def run_epoch(epoch: int, step_done: Callable[[], None]) -> Row:
        rate = epoch_learning_rate(settings, epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        start_epoch(epoch)
        network.train()
        losses, hits = [], []
        for inputs, targets in batches.epoch():
            optimiser.zero_grad(set_to_none=True)
            value, logits = loss(inputs, targets)
            value.backward()
            if gradient_clip is not None:
                nn.utils.clip_grad_norm_(weights, gradient_clip, foreach=True)
            optimiser.step()
            after_step()
            labels = targets if isinstance(targets, Tensor) else targets.labels
            losses.append(value.detach())
            hits.append((logits.detach().argmax(1) == labels).double().mean())
            step_done()
        row: Row = {
            "learning_rate": rate,
            "loss": float(torch.stack(losses).double().mean()),
            "accuracy": float(torch.stack(hits).mean()),
        }
        require_finite(settings, loop.section, float(row["loss"]), network, scales=scales)
        return {**row, **measure()}

    state: dict[str, Any] = {"network": network, "optimiser": optimiser, "batches": batches, **(parts or {})}
    return loop.run(settings.epochs, batches.steps_per_epoch, run_epoch, state)


class GeneratorState:
    """A random generator as a part of a checkpoint."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["state"])
