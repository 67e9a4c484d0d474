"""What a search does on a GPU in a step and after an epoch, on one that is not there: no step may wait for it."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tailnas.batches.device_images import DeviceImages
from tailnas.imbalance.settings import MovingRatio
from tailnas.search.objective import Objective, SingleBranch, TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask
from tailnas.training.loop import InnerLoop
from tests.unit.pretended_gpu import Watch, pretended_gpu
from tests.unit.small_search import CLASSES

OPERATIONS = 5000
"""Of a step, at least."""


class WatchedLoop(InnerLoop):
    """Watches one epoch; what was found is moved to `in_steps` when its last step is done."""

    def __init__(self, watch: Watch) -> None:
        super().__init__("search", lambda: None)
        self.watch = watch
        self.in_steps: list[str] = []
        self.steps = 0

    def run(self, epochs, steps, run_epoch, parts, show=None, stop=None):
        def step_done() -> None:
            self.steps += 1
            if self.steps == steps:
                self.in_steps, self.watch.found = self.watch.found, []

        self.watch.watching = True
        row = run_epoch(0, step_done)
        self.watch.watching = False
        return [{"epoch": 1, **row}]


def single(task: SearchTask, kind=SingleBranch, weights=None) -> Objective:
    return kind(task.single_branch(), task.training.precision, weights)


def weighted(task: SearchTask) -> Objective:
    weights = torch.arange(1.0, CLASSES + 1).to(task.device)
    return single(task, weights={"weight": weights, "architecture": weights})


def two(task: SearchTask) -> Objective:
    return TwoBranch(task.two_branch(), "logits", task.training.precision)


def on_gpu(task: SearchTask, watch: Watch) -> SearchTask:
    halves = {
        name: DeviceImages(data.images.to("cuda"), data.labels.to("cuda"))
        for name, data in (("weight_half", task.weight_half), ("architecture_half", task.architecture_half))
    }
    return replace(task, **halves, loop=WatchedLoop(watch), cuda_graph=False)


def found(task: SearchTask, build) -> SearchResult:
    objective = build(task)
    if objective.branches == 1:
        return bilevel_search(task, objective, ["instance"])
    mixing = MovingRatio(schedule="linear", time="midpoint")
    return bilevel_search(task, objective, ["instance", "reversed"], mixing, heads="mixing")


SEARCHES = {
    "class weights, first order": (weighted, {"order": "first"}),
    "one branch, second order": (single, {"order": "second", "batch_size": 16}),
    "two branches": (two, {"order": "first", "batch_size": 16}),
}


@pytest.mark.parametrize(("build", "changes"), SEARCHES.values(), ids=SEARCHES.keys())
def test_steps_stay_on_the_gpu_and_an_epoch_waits_once_at_its_end(make_task, monkeypatch, build, changes) -> None:
    task = make_task(**{"epochs": 1, "batch_size": 8, "flip": True, **changes})
    expected = found(task, build)
    with pretended_gpu(monkeypatch) as watch:
        watched = on_gpu(task, watch)
        result = found(watched, build)
    loop = watched.loop
    assert loop.steps == 21 // task.training.batch_size
    assert watch.operations > OPERATIONS * loop.steps
    assert loop.in_steps == []
    waits = Counter(line.split(" at ")[1].split(":")[0] for line in watch.found)
    assert waits.keys() == {
        "bilevel.py",  # mean losses
        "record.py",  # alphas
        "device_images.py",  # mean and deviation of the images, which go to the GPU before the first batch
        "accuracy.py",
        "run.py",  # whether predictions are finite
        "loop.py",  # whether weights are finite
    } | ({"two_branch.py"} if build is two else set())
    assert waits["device_images.py"] == 2
    for name, values in expected.alphas.items():
        torch.testing.assert_close(result.alphas[name], values, rtol=0, atol=2e-3)
    assert result.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], rel=1e-3)


class Faulty(SingleBranch):
    """Does everything that a step must not."""

    temperature = torch.tensor(1.0)

    def loss(self, batches, alphas, half="weight"):
        ((images, labels),) = batches
        value = super().loss(batches, alphas, half)["loss"]
        self.read = float(value.detach())
        self.chosen = labels[labels > 0]
        self.copy = value.detach().cpu()
        self.made = torch.tensor(1.0, device=images.device)
        return {"loss": value * self.temperature}


def test_each_fault_is_found_where_it_stands(make_task, monkeypatch) -> None:
    with pretended_gpu(monkeypatch) as watch:
        task = on_gpu(make_task(epochs=1, batch_size=16), watch)
        found(task, lambda task: single(task, Faulty))
    assert {line.split(" at ")[0] for line in task.loop.in_steps if "at test_gpu_step.py" in line} == {
        "aten._local_scalar_dense.default",
        "aten.index.Tensor",
        "cpu",
        "tensor",
        "aten.mul.Tensor",  # a number of the CPU, which a recorded step would keep for ever
    }


def test_class_weights_left_on_the_cpu_end_the_search(make_task, monkeypatch) -> None:
    with pretended_gpu(monkeypatch) as watch:
        task = on_gpu(make_task(epochs=1), watch)
        weights = {"architecture": torch.ones(CLASSES)}
        with pytest.raises(RuntimeError, match="on the same device"):
            found(task, lambda task: single(task, weights=weights))
