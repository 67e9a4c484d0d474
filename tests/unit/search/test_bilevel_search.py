"""The bilevel search as a whole: what moves, what stays, and that an interruption leaves no trace."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tailnas.batches.batches import sequential_batches
from tailnas.batches.device_images import DeviceImages
from tailnas.data.split_file import HALVES
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import torch_generator
from tailnas.search.bilevel import Bilevel, mean_losses
from tailnas.search.objective import SingleBranch, TwoBranch
from tailnas.search.relaxation import Relaxation
from tailnas.search.run import bilevel_cost, bilevel_search
from tailnas.search.sweep import mixing_ratio_sweep
from tailnas.search.task import SearchResult
from tailnas.space.pretrained import supernet
from tailnas.space.supernet import initial_alphas
from tests.unit.small_search import Killed, same, search

BILEVEL = ("darts", "bbn", "bbn_hls")
COMPONENTS = {"darts": ("normal", "reduce")} | dict.fromkeys(
    ("bbn", "bbn_hls"), ("normal", "reduce", "instance_head", "class_head")
)
RATES = ("backbone", "instance_head", "class_head")
SETTINGS = {name: {"order": "second" if name == "darts" else "first", "flip": True} for name in BILEVEL}
WHOLE: dict[str, SearchResult] = {}
"""Searches under SETTINGS, each searched once."""


def whole(make_task, name):
    if name not in WHOLE:
        WHOLE[name] = search(name, make_task(**SETTINGS[name]))
    return WHOLE[name]


@pytest.mark.parametrize("name", ["darts", pytest.param("bbn", marks=pytest.mark.slow), "bbn_hls"])
def test_result_holds_what_was_searched_and_follows_the_seed(make_task, name):
    """That the same seed gives the same result is what the interrupted search below shows."""
    task, result = make_task(**SETTINGS[name]), whole(make_task, name)
    assert result.genotype is None and tuple(result.alphas) == COMPONENTS[name]
    assert all(values.shape == (3, 14, 8) and values.dtype == torch.float32 for values in result.alphas.values())
    assert [row["epoch"] for row in result.history] == [1, 2]
    wanted = {"epoch", "lr_weights", "lr_backbone", "loss", "architecture_loss", "balanced_accuracy", "skip_share"}
    wanted |= {"softmax_movement", "genotype"} | {f"entropy_{component}" for component in COMPONENTS[name]}
    two_branch = {"mixing_ratio", "lr_instance_head", "lr_class_head", "instance_loss", "class_loss"}
    assert set(result.history[0]) == wanted | (two_branch if name != "darts" else set())
    assert set(json.loads(result.history[-1]["genotype"])) == {*COMPONENTS[name], "concat"}

    trained = sum(weight.numel() for weight in result.network.parameters())
    assert result.cost == bilevel_cost(task, 1 if name == "darts" else 2, trained)

    other = search(name, make_task(seed=1, epochs=1, **SETTINGS[name]))
    assert not any(torch.equal(values[:2], result.alphas[key][:2]) for key, values in other.alphas.items())


def test_a_progressive_sampler_advances_in_both_halves(make_task):
    """The rarest class is 1 in 7 images at first; over the last half of the epochs it is drawn in 2 of 7 cases."""

    class Recording(SingleBranch):
        """Its loss is one of the weights and alphas, quick to compute."""

        def loss(self, batches, alphas, half="weight"):
            drawn[half].append(batches[0][1])
            return {"loss": sum(values.square().mean() for values in (*self.network.parameters(), *alphas.values()))}

    drawn = {half: [] for half in HALVES}
    task = make_task(epochs=16, batch_size=8)
    bilevel_search(task, Recording(task.single_branch()), ("progressively_balanced",))
    for labels in drawn.values():
        late = torch.cat(labels[len(labels) // 2 :])
        assert 0.21 < float(late.eq(2).double().mean()) < 0.37, f"of {len(late)} draws; 0.14 without advance"


@pytest.mark.parametrize("name", ["darts", "bbn_hls"])
def test_an_interrupted_search_ends_as_if_nothing_had_happened(make_task, tmp_path, name):
    """Killed in the first epoch and in the second, each time in a process of its own."""
    interrupted = {"folder": tmp_path / "interrupted", **SETTINGS[name]}
    for process, epochs in enumerate((0, 1)):
        torch.manual_seed(process)  # another process starts with other global generators
        with pytest.raises(Killed):
            search(name, make_task(epochs_to_live=epochs, **interrupted))
    wanted = whole(make_task, name)
    assert same(search(name, make_task(epochs_to_live=1, **interrupted)), wanted)
    assert same(search(name, make_task(epochs_to_live=0, **interrupted)), wanted), "a finished step was made again"


def moving(task, objective, factor=1.0, rates=(0.1, 0.1, 0.1), epsilon=1e-8):
    """Travel of each component's alphas over three alpha steps, with the loss multiplied by `factor`."""
    alphas = initial_alphas(objective.components, torch_generator(0, "search", "alphas"))
    plain = objective.loss
    objective.loss = lambda *inputs: {key: factor * value for key, value in plain(*inputs).items()}
    bilevel = Bilevel(objective, alphas, task.training, task.bilevel)
    bilevel.set_learning_rates(0.025, dict(zip(RATES, rates, strict=True)))
    for group in bilevel.alpha_optimiser.param_groups:
        group["eps"] = epsilon
    samplers = ["instance", "reversed"][: objective.branches]
    halves = [zip(*(batches.epoch(3) for batches in task.batches(half, samplers)), strict=True) for half in HALVES]
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


def test_running_statistics_follow_the_weight_steps_alone(make_task):
    """A network in eval mode has never seen the architecture half."""
    task = make_task()
    objective = one_branch(task)
    before = {key: values.clone() for key, values in objective.network.named_buffers()}
    moving(task, objective)
    assert all(torch.equal(values, before[key]) for key, values in objective.network.named_buffers())


@pytest.mark.parametrize(("half", "counted"), [("weight", 0), ("architecture", 2)])
def test_a_loss_takes_the_weights_of_its_half(make_task, half, counted):
    """Weights that single out one class leave that class's mean cross-entropy."""
    task = make_task()
    single = {"weight": torch.tensor([1.0, 0.0, 0.0]), "architecture": torch.tensor([0.0, 0.0, 1.0])}
    objective = SingleBranch(task.single_branch().eval(), class_weights=single)
    images, labels = batch = next(iter(task.batches("architecture", ["class_balanced"])[0].epoch(1)))
    alphas = {name: torch.zeros(14, 8) for name in objective.components}
    rows = labels == counted
    expected = torch.nn.functional.cross_entropy(objective.logits(images, alphas)[rows], labels[rows])
    torch.testing.assert_close(objective.loss((batch,), alphas, half)["loss"], expected)


class Tilted(Relaxation):
    def regulariser(self, alphas):
        return 3 * alphas["normal"].sum()


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_regulariser_is_added_to_the_loss(make_task, order):
    task = make_task(order=order)
    batches = [next(iter(task.batches(half, ["instance"])[0].epoch(1))) for half in HALVES]
    gradients = []
    for relaxation in (Relaxation(), Tilted()):
        objective = SingleBranch(task.single_branch().train(), relaxation=relaxation)
        alphas = initial_alphas(objective.components, torch_generator(0, "alphas"))
        bilevel = Bilevel(objective, alphas, task.training, task.bilevel)
        bilevel.alpha_step(*((batch,) for batch in batches))
        gradients.append({name: values.grad for name, values in bilevel.alphas.items()})
    plain, regularised = gradients
    torch.testing.assert_close(regularised["normal"], plain["normal"] + 3)
    torch.testing.assert_close(regularised["reduce"], plain["reduce"])


def test_losses_of_an_epoch_are_means():
    steps = [{"loss": torch.tensor(loss), "other": torch.tensor(2.0)} for loss in (1.0, 2.0, 6.0)]
    assert mean_losses(steps) == {"loss": 3.0, "other": 2.0}


def test_the_sweep_is_the_accuracy_at_each_mixing_ratio(make_task):
    task = make_task(epochs=1)
    rows = search("bbn", task).tables["mixing_ratio"]
    assert [row["mixing_ratio"] for row in rows] == pytest.approx([step / 20 for step in range(21)])
    objective = TwoBranch(task.two_branch().eval())
    alphas = initial_alphas(objective.components, torch_generator(0, "alphas"))
    images = DeviceImages(task.architecture_half.images[:20], task.architecture_half.labels[:20])
    swept = mixing_ratio_sweep(task, objective, alphas, images)
    pixels = torch.cat([batch for batch, _ in sequential_batches(images, 16, task.normalisation)])
    for row in swept[::5]:
        outputs = objective.network.predict_logits(pixels, alphas, row["mixing_ratio"])
        hits = (outputs.argmax(1) == images.labels).double()
        recalls = [float(hits[images.labels == c].mean()) for c in images.labels.unique()]
        assert row["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))


@pytest.mark.parametrize("name", BILEVEL)
def test_a_frozen_backbone_is_frozen(make_task, name):
    """Its weights, bit by bit; the running statistics follow the target's images."""
    task = make_task(initialisation="pretrained", freeze_backbone=True, epochs=1)
    source = supernet(task.space, 7, 1).state_dict()
    result = search(name, replace(task, pretrained=source))
    last = f"cells.{task.space.cells}."
    state, buffers = result.network.state_dict(), {key for key, _ in result.network.named_buffers()}
    head = {key for key in state if key.startswith(("instance_head.", "class_head.", last))}
    frozen = {key for key in state if key.startswith(("stem.", "cells."))} - head
    assert len(frozen - buffers) > 100
    assert all(torch.equal(state[key], source[key]) for key in frozen - buffers)
    trained = {key: weight.numel() for key, weight in result.network.named_parameters() if key not in frozen}
    assert result.cost.weights_trained == sum(trained.values())

    def start(key):
        return source[last + key.split(".", 1)[1] if "_head" in key else key]

    assert not any(torch.equal(state[key], start(key)) for key in head - buffers)
    assert all(not torch.equal(values[0], values[-1]) for values in result.alphas.values())


@pytest.mark.parametrize("branches", ["single_branch", "two_branch"])
def test_weights_of_another_super_network_are_named(make_task, tmp_path, branches):
    task = make_task()
    deeper = supernet(task.space.model_copy(update={"cells": 4}), 7, 1).state_dict()
    wider = supernet(task.space.model_copy(update={"channels": 3}), 7, 1).state_dict()
    for state, what in ((deeper, "another depth"), (wider, "has shape")):
        file = tmp_path / "supernet.safetensors"
        with pytest.raises(UserError, match=rf"^{file}: .*{what}.*; allowed: ") as error:
            getattr(replace(task, pretrained=state, pretrained_file=file), branches)()
        assert "\n" not in str(error.value)


def test_a_diverging_search_names_its_rate(make_task):
    task = make_task(learning_rate=1e30, gradient_clip=None)
    with pytest.raises(UserError, match=r"^search\.training\.learning_rate: 1e\+30: .* became .*; allowed: ") as error:
        search("darts", task)
    assert "\n" not in str(error.value)


def test_cost_counts_every_pass(make_task):
    """Batches of 8 of 21 images, two steps per epoch, two epochs; the second order passes the weight batch 4 times."""
    first = bilevel_cost(make_task(batch_size=8), 1)
    assert (first.optimiser_steps, first.trained_images, first.scored_images) == (8, 4 * 16, 0)
    assert bilevel_cost(make_task(batch_size=8, order="second"), 1).trained_images == 4 * (4 * 8 + 8)
    two = bilevel_cost(make_task(batch_size=8), 2)
    assert (two.trained_images, two.total_multiply_adds) == (2 * 4 * 16, 2 * first.total_multiply_adds)
    assert first.total_multiply_adds % first.trained_images == 0
