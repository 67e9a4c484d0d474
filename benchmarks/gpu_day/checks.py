"""Whether a step recorded into a CUDA graph is the step that was recorded, whatever changes between epochs.

On a CPU nothing is recorded, so that the same functions only compare a search with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_day.data import checkpoint, on_device, photographs, preset, ready, search_task
from benchmarks.gpu_day.results import Day, Part, in_one_go
from benchmarks.gpu_day.timed_loop import TimedLoop
from tailnas.batches.device_images import DeviceImages
from tailnas.data.split_file import HALVES
from tailnas.imbalance.settings import MovingRatio
from tailnas.search.bilevel import Bilevel
from tailnas.search.objective import Objective, SingleBranch, TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.steps import StepRunner
from tailnas.search.task import SearchTask
from tailnas.space.supernet import initial_alphas
from tailnas.split.long_tail import long_tailed_split
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop

SAMPLERS = ("instance", "reversed")
RATES = (0.05, 0.01, 0.025)
CLOSE = 1e-2
"""Relative distance that rounding in another order explains after three epochs."""


def rates(day: Day) -> tuple[float, ...]:
    """Of the weights in each epoch."""
    return RATES[:2] if day.miniature else RATES


def steps(day: Day) -> int:
    """Of an epoch: enough to record the first one and replay it."""
    return 1 if day.miniature else 6


def parts(day: Day) -> dict[str, Part]:
    recorded = {
        f"recorded step, {order} order, {branches} branches": Part(in_one_go(recorded_step, day, order, branches))
        for order, branches in (("first", 1), ("first", 2), ("second", 1), ("second", 2))
        if not day.miniature or (order, branches) == ("first", 2)
    }
    return {
        **recorded,
        "rates and ratio followed": Part(in_one_go(followed, day)),
        "a step waits for nothing": Part(in_one_go(waits, day)),
        "resumed search": Part(in_one_go(resumed, day)),
    }


def recorded_step(day: Day, order: str, branches: int) -> dict[str, Any]:
    """Largest differences of losses, alphas and weights after some epochs with other rates, relative to eager steps.

    Raises AssertionError where they are more than rounding, or where the rates made no difference.
    """
    eager, graph, fixed = (
        run_steps(day, order, branches, cuda_graph=cuda_graph, rates=given)
        for cuda_graph, given in ((False, rates(day)), (True, rates(day)), (True, RATES[:1] * len(rates(day))))
    )
    found = {name: distance(graph[name], eager[name]) for name in eager}
    assert all(value < CLOSE for value in found.values()), f"recorded and eager steps differ: {found}"
    assert distance(fixed["weights"], eager["weights"]) > 10 * found["weights"], "the rates made no difference"
    return found


def run_steps(day: Day, order: str, branches: int, *, cuda_graph: bool, rates: Sequence[float]) -> dict[str, Tensor]:
    bilevel, runner = step_runner(day, order, branches, cuda_graph=cuda_graph)
    computed = counted_losses(bilevel.objective)
    losses, before = [], 0
    for epoch, rate in enumerate(rates):
        before = len(computed)
        bilevel.objective.set_mixing_ratio(1 - epoch / len(rates))
        bilevel.set_learning_rates(rate, {"backbone": rate, "instance_head": rate / 2, "class_head": rate / 4})
        losses += runner.epoch(steps(day), lambda: None)
    if cuda_graph and day.device != "cpu":
        assert len(computed) == before, "steps were not recorded"
    return {
        "losses": torch.stack([torch.stack(list(step.values())) for step in losses]).detach().double().cpu(),
        "alphas": torch.cat([values.flatten() for values in bilevel.alphas.values()]).detach().double().cpu(),
        "weights": torch.cat([weight.flatten() for weight in bilevel.weights]).detach().double().cpu(),
    }


def counted_losses(objective: Objective) -> list[None]:
    """Grows with each loss that Python computes: a replayed step computes none."""
    computed: list[None] = []
    loss = objective.loss

    def counted(*given: Any) -> dict[str, Tensor]:
        computed.append(None)
        return loss(*given)

    vars(objective)["loss"] = counted
    return computed


def distance(one: Tensor, other: Tensor) -> float:
    """||one - other|| / ||other||."""
    return float((one - other).norm() / other.norm())


def followed(day: Day) -> dict[str, Any]:
    """A recorded step with rates of 0 moves nothing, bit by bit, and at mixing ratio 1 or 0 is one branch's loss."""
    bilevel, runner = step_runner(day, "first", 2, cuda_graph=True)
    everything = {"backbone": 0.05, "instance_head": 0.05, "class_head": 0.05}
    bilevel.set_learning_rates(0.05, everything)
    runner.epoch(steps(day), lambda: None)
    bilevel.set_learning_rates(0.0, {**everything, "class_head": 0.0})
    before = [weight.detach().clone() for weight in bilevel.weights]
    alphas = {name: values.detach().clone() for name, values in bilevel.alphas.items()}
    runner.epoch(steps(day), lambda: None)
    assert all(torch.equal(*pair) for pair in zip(before, bilevel.weights, strict=True)), "weights moved at rate 0"
    still = {name: torch.equal(values, bilevel.alphas[name]) for name, values in alphas.items()}
    assert still == {name: name == "class_head" for name in alphas}, f"alphas that stood still: {still}"
    for ratio, branch in ((1.0, "instance_loss"), (0.0, "class_loss")):
        bilevel.objective.set_mixing_ratio(ratio)
        for losses in runner.epoch(1, lambda: None):
            assert torch.equal(losses["loss"], losses[branch]), f"mixing ratio {ratio}: {losses}"
    return {}


def waits(day: Day) -> dict[str, Any]:
    """An eager step where torch raises an error for each wait for the GPU."""
    for branches in (1, 2):
        order = "first" if day.miniature else "second"
        bilevel, runner = step_runner(day, order, branches, cuda_graph=False)
        runner.epoch(1 if day.miniature else 2, lambda: None)
        batches = [source.make(source.plan(1).steps[0]) for source in runner.sources]
        with synchronisation_is_an_error(day):
            bilevel.step(tuple(batches[:branches]), tuple(batches[branches:]))
    return {}


@contextmanager
def synchronisation_is_an_error(day: Day) -> Iterator[None]:
    if day.device == "cpu":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Interrupted(Exception):
    """Stands for the end of the process."""


def resumed(day: Day) -> dict[str, Any]:
    """A search that is interrupted after its first epoch and goes on from its checkpoint, against one that is not."""

    def after_first(row: Row, parts: Mapping[str, Any]) -> Row:
        if row["epoch"] == 2:
            raise Interrupted
        return {}

    def result(name: str, epoch_done: Callable[..., Row] | None = None) -> tuple[Tensor, list[Row]]:
        found = search_from(day, TimedLoop(f"search {name}", day, name, epoch_done))
        assert found.alphas is not None
        return torch.cat([values.flatten() for values in found.alphas.values()]).double(), found.history

    for name in ("whole", "interrupted"):
        checkpoint(day, name).unlink(missing_ok=True)
    whole, history = result("whole")
    try:
        result("interrupted", after_first)
        raise AssertionError("the search was not interrupted")
    except Interrupted:
        pass
    goes_on, _ = result("interrupted")
    found = distance(goes_on, whole)
    assert found < CLOSE, f"alphas of the resumed search differ by {found}"
    return {"alphas": found, "epochs": len(history), "equal_bit_by_bit": bool(torch.equal(goes_on, whole))}


def search_from(day: Day, loop: Loop) -> Any:
    task, objective = started(day, "first", 2, loop, epochs=len(rates(day)))
    return bilevel_search(task, objective, SAMPLERS, MovingRatio(schedule="linear", time="midpoint"), heads="mixing")


def started(day: Day, order: str, branches: int, loop: Loop, epochs: int = 1) -> tuple[SearchTask, Objective]:
    device = ready(day)
    params = preset(day)
    training = params.search.training.model_copy(update={"epochs": epochs, "batch_size": 16})
    bilevel = params.search.bilevel.model_copy(update={"order": order, "architecture_learning_rate": 0.01})
    params = params.model_copy(
        update={"search": params.search.model_copy(update={"training": training, "bilevel": bilevel})}
    )
    task = search_task(day, params, small_halves(day, device), 0, loop)
    if branches == 1:
        return task, SingleBranch(task.single_branch())
    return task, TwoBranch(task.two_branch())


def small_halves(day: Day, device: torch.device) -> list[DeviceImages]:
    data = photographs(day)
    split = long_tailed_split(
        data.train_labels, len(data.classes), 1.0, "exp", "given", 40 if not day.miniature else 4, 0
    )
    rows = [split.half(half) for half in HALVES]
    return [on_device(data.train_images[some], data.train_labels[some], device) for some in rows]


def step_runner(day: Day, order: str, branches: int, *, cuda_graph: bool) -> tuple[Bilevel, StepRunner]:
    task, objective = started(day, order, branches, Loop("search", day.folder, day.folder, "none"))
    objective.network.train()
    generator = torch.Generator().manual_seed(0)
    alphas = {name: values.to(task.device) for name, values in initial_alphas(objective.components, generator).items()}
    bilevel = Bilevel(objective, alphas, task.training, task.bilevel)
    halves = [task.batches(half, SAMPLERS[:branches]) for half in HALVES]
    return bilevel, StepRunner(bilevel, *halves, cuda_graph=cuda_graph)
