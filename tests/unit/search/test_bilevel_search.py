"""The bilevel search as a whole: what moves, what stays, and that an interruption leaves no trace."""

import json
from itertools import pairwise

import pytest
import torch

from tailnas.data.batches import sequential_batches
from tailnas.data.device import DeviceImages
from tailnas.errors import UserError
from tailnas.search.bilevel import Bilevel
from tailnas.search.objective import SingleBranch, TwoBranch
from tailnas.search.sweep import mixing_ratio_sweep
from tailnas.seeding import torch_generator
from tailnas.space.supernet import initial_alphas
from tailnas.training.pretraining import supernet
from tailnas.training.progress import Progress

BILEVEL = ("darts", "bbn", "bbn_hls")
COMPONENTS = {"darts": ("normal", "reduce")} | dict.fromkeys(
    ("bbn", "bbn_hls"), ("normal", "reduce", "instance_head", "class_head")
)


def equal(first, second) -> bool:
    """Whether two results agree bit by bit."""
    state, other = first.network.state_dict(), second.network.state_dict()
    return (
        first.history == second.history
        and first.alphas.keys() == second.alphas.keys()
        and all(torch.equal(values, second.alphas[name]) for name, values in first.alphas.items())
        and state.keys() == other.keys()
        and all(torch.equal(values, other[name]) for name, values in state.items())
    )


@pytest.mark.parametrize("name", BILEVEL)
def test_result_holds_what_was_searched_and_follows_the_seed(make_task, search, tmp_path, name):
    result = search(name, make_task(folder=tmp_path / "a"))
    assert tuple(result.alphas) == COMPONENTS[name]
    assert all(values.shape == (3, 14, 8) and values.dtype == torch.float32 for values in result.alphas.values())
    assert [row["epoch"] for row in result.history] == [1, 2]
    wanted = {"epoch", "lr_weights", "lr_backbone", "loss", "architecture_loss", "balanced_accuracy", "skip_share"}
    wanted |= {"softmax_movement", "genotype"} | {f"entropy_{component}" for component in COMPONENTS[name]}
    two_branch = {"mixing_ratio", "lr_instance_head", "lr_class_head", "instance_loss", "class_loss"}
    assert set(result.history[0]) == wanted | (two_branch if name != "darts" else set())
    assert set(json.loads(result.history[-1]["genotype"])) == {*COMPONENTS[name], "concat"}

    assert equal(result, search(name, make_task(folder=tmp_path / "b")))
    other = search(name, make_task(seed=1, epochs=1, folder=tmp_path / "c"))
    assert not any(torch.equal(values[:2], result.alphas[key][:2]) for key, values in other.alphas.items())


def test_random_follows_its_seed_and_is_not_trained(make_task, search):
    results = [search("random", make_task(seed=seed)) for seed in (0, 0, 1)]
    assert results[0].history == results[1].history != results[2].history
    assert results[0].network is None and [row["epoch"] for row in results[0].history] == [0]
    assert results[0].alphas["normal"].shape == (1, 14, 8)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("name", "order"), [("darts", "second"), ("bbn_hls", "first")])
def test_an_interrupted_search_ends_as_if_nothing_had_happened(make_task, search, tmp_path, monkeypatch, name, order):
    """Interrupted once right after a checkpoint, once in an epoch, each time in a process of its own."""
    settings = {"epochs": 3, "order": order, "flip": True, "crop_padding": 2}
    whole = search(name, make_task(folder=tmp_path / "whole", **settings))

    def die(*args):
        raise Killed

    interrupted = tmp_path / "interrupted"
    for seed, moment in enumerate(("epoch", "step")):
        with monkeypatch.context() as patch:
            patch.setattr(Progress, moment, die)
            with pytest.raises(Killed):
                search(name, make_task(folder=interrupted, **settings))
        torch.manual_seed(seed)  # another process starts with other global generators
    assert (interrupted / "search.pt").exists()
    assert equal(search(name, make_task(folder=interrupted, **settings)), whole)

    monkeypatch.setattr(Progress, "step", lambda self: pytest.fail("a finished step was made again"))
    assert equal(search(name, make_task(folder=interrupted, **settings)), whole)


def moving(task, objective, factor=1.0, rates=(0.1, 0.1, 0.1), epsilon=1e-8):
    """Travel of each component's alphas over three alpha steps, with the loss multiplied by `factor`."""
    alphas = initial_alphas(objective.components, torch_generator(0, "search", "alphas"))
    plain = objective.loss
    objective.loss = lambda *inputs: {key: factor * value for key, value in plain(*inputs).items()}
    bilevel = Bilevel(objective, alphas, task.settings)
    bilevel.set_learning_rates(0.025, dict(zip(("backbone", "instance_head", "class_head"), rates, strict=True)))
    for group in bilevel.alpha_optimiser.param_groups:
        group["eps"] = epsilon
    samplers = ["instance", "reversed"][: objective.branches]
    halves = [
        zip(*(batches.epoch(3) for batches in task.batches(half, samplers)), strict=True)
        for half in ("weights", "architecture")
    ]
    travel = dict.fromkeys(alphas, 0.0)
    for weight_step, architecture_step in zip(*halves, strict=True):
        before = {name: values.detach().clone() for name, values in bilevel.alphas.items()}
        bilevel.alpha_step(weight_step, architecture_step)
        for name, values in bilevel.alphas.items():
            travel[name] += float((values.detach() - before[name]).double().abs().sum())
    return travel


def one_branch(task):
    return SingleBranch(task.single_branch().train())


def two_branch(task):
    return TwoBranch(task.two_branch().train())


@pytest.mark.parametrize("objective", [one_branch, two_branch])
def test_a_constant_loss_factor_changes_no_travel(make_task, objective):
    """Adam divides by the gradient's own size; its epsilon, the only number that does not scale, is taken away."""
    task = make_task(architecture_weight_decay=0.0)
    plain = moving(task, objective(task), epsilon=0.0)
    assert all(distance > 1 for distance in plain.values())
    assert moving(task, objective(task), 1 / 16, epsilon=0.0) == pytest.approx(plain, rel=1e-6)


def test_with_adams_own_epsilon_it_changes_next_to_nothing(make_task):
    task = make_task(architecture_weight_decay=0.0)
    assert moving(task, one_branch(task), 16) == pytest.approx(moving(task, one_branch(task)), rel=2e-2)


def test_weight_decay_breaks_that_invariance(make_task):
    """So that the tests above cannot pass for another reason."""
    task = make_task(architecture_weight_decay=0.1)
    plain = moving(task, one_branch(task), epsilon=0.0)
    assert moving(task, one_branch(task), 1 / 1024, epsilon=0.0) != pytest.approx(plain, rel=1e-2)


@pytest.mark.parametrize(
    ("rates", "still"),
    [
        ((0, 0, 0), {"normal", "reduce", "instance_head", "class_head"}),
        ((0, 0.1, 0.1), {"normal", "reduce"}),
        ((0.1, 0, 0.1), {"instance_head"}),
        ((0.1, 0.1, 0), {"class_head"}),
    ],
)
def test_each_component_travels_at_its_own_rate_and_not_at_all_without_one(make_task, rates, still):
    task = make_task(architecture_weight_decay=0.1)
    travel = moving(task, two_branch(task), rates=rates)
    assert {name for name, distance in travel.items() if distance == 0} == still


def test_travel_goes_to_zero_with_the_rate(make_task):
    task = make_task(architecture_weight_decay=0.0)
    distances = [moving(task, one_branch(task), rates=(rate,) * 3)["normal"] for rate in (0.1, 0.01, 0.001)]
    assert all(large > 5 * small > 0 for large, small in pairwise(distances))


def test_hls_slows_the_heads_as_the_mixing_ratio_says(make_task, search):
    result = search("bbn_hls", make_task(epochs=2, mixing_schedule="linear", architecture_learning_rate=0.2))
    for row, mu in zip(result.history, (0.75, 0.25), strict=True):
        assert row["mixing_ratio"] == pytest.approx(mu)
        assert row["lr_backbone"] == row["lr_instance_head"] == pytest.approx(0.2 * mu)
        assert row["lr_class_head"] == pytest.approx(0.2 * (1 - mu))


def test_the_sweep_is_the_accuracy_at_each_mixing_ratio(make_task, search):
    task = make_task(epochs=1)
    rows = search("bbn", task).tables["mixing_ratio"]
    assert [row["mixing_ratio"] for row in rows] == pytest.approx([step / 20 for step in range(21)])
    objective = TwoBranch(task.two_branch().eval())
    alphas = initial_alphas(objective.components, torch_generator(0, "alphas"))
    images = DeviceImages(task.architecture.images[:40], task.architecture.labels[:40])
    swept = mixing_ratio_sweep(task, objective, alphas, images)
    pixels = torch.cat([batch for batch, _ in sequential_batches(images, 16, task.normalisation)])
    for row in swept[::5]:
        outputs = objective.network.predict_logits(pixels, alphas, row["mixing_ratio"])
        hits = (outputs.argmax(1) == images.labels).double()
        recalls = [float(hits[images.labels == c].mean()) for c in images.labels.unique()]
        assert row["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))


def test_bbn_keeps_all_rates(make_task, search):
    row = search("bbn", make_task(epochs=1, architecture_learning_rate=0.2)).history[0]
    assert {row[f"lr_{name}"] for name in ("backbone", "instance_head", "class_head")} == {0.2}


@pytest.mark.parametrize("name", BILEVEL)
def test_a_frozen_backbone_is_frozen(make_task, search, name):
    """Its weights, bit by bit; the running statistics follow the target's images."""
    reference = make_task()
    source = supernet(reference.space, 7, 1).state_dict()
    task = make_task(pretrained=source, initialisation="pretrained", freeze_backbone=True, epochs=1)
    result = search(name, task)
    last = f"cells.{task.space.cells}."
    state, buffers = result.network.state_dict(), {key for key, _ in result.network.named_buffers()}
    head = {key for key in state if key.startswith(("instance_head.", "class_head.", last))}
    frozen = {key for key in state if key.startswith(("stem.", "cells."))} - head
    assert len(frozen - buffers) > 100
    assert all(torch.equal(state[key], source[key]) for key in frozen - buffers)

    def start(key):
        return source[last + key.split(".", 1)[1] if "_head" in key else key]

    assert not any(torch.equal(state[key], start(key)) for key in head - buffers)
    assert all(not torch.equal(values[0], values[-1]) for values in result.alphas.values())


def test_a_diverging_search_names_its_rate(make_task, search):
    with pytest.raises(UserError, match=r"^search\.learning_rate: the loss became .*allowed: ") as error:
        search("darts", make_task(learning_rate=1e30, gradient_clip=None))
    assert "\n" not in str(error.value)


def test_running_statistics_follow_the_weight_steps_alone(make_task):
    """A network in eval mode has never seen the architecture half."""
    task = make_task()
    objective = SingleBranch(task.single_branch().train())
    before = {key: values.clone() for key, values in objective.network.named_buffers()}
    moving(task, objective)
    assert all(torch.equal(values, before[key]) for key, values in objective.network.named_buffers())
