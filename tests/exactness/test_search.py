"""tailnas's search step against the plain reference: float64, relative error under 1e-8."""

from itertools import pairwise

import pytest
import torch

from benchmarks.plain_darts import without_running_statistics
from benchmarks.plain_search import PlainSearch, Recipe, mixed_loss, plain_loss
from tailnas.search.architecture_gradient import second_order
from tailnas.search.bilevel import Bilevel
from tailnas.search.objective import SingleBranch, TwoBranch
from tailnas.search.settings import Bilevel as BilevelSettings
from tailnas.space.backends.choose import BACKENDS
from tailnas.space.supernet import frozen_running_statistics
from tailnas.training.settings import Cosine, NetworkTraining

from .data import (
    HEADS,
    SINGLE,
    devices,
    moved,
    random_alphas,
    random_batch,
    single_pair,
    two_branch_pair,
)
from .exact import assert_all_close, gradient_through_step, relative_error
from .layout import as_reference

RECIPE = Recipe(alpha_lr=0.1, clip=1.0)
"""A large rate of the alphas, so that ten steps go a long way, and a norm that the clipping meets."""

RATES = {"backbone": 0.1, "instance_head": 0.03, "class_head": 0.07}
MU = 0.3


def training(recipe: Recipe) -> NetworkTraining:
    return NetworkTraining(
        epochs=1,
        batch_size=2,
        learning_rate=recipe.weight_lr,
        schedule=Cosine(name="cosine", minimum=0.0),
        warmup=None,
        momentum=recipe.momentum,
        nesterov=False,
        weight_decay=recipe.weight_decay,
        gradient_clip=recipe.clip,
        crop_padding=0,
        flip=False,
        precision="float32",
    )


def settings(order: str, recipe: Recipe) -> BilevelSettings:
    return BilevelSettings(
        order=order,
        initialisation="scratch",
        freeze_backbone=False,
        architecture_learning_rate=recipe.alpha_lr,
        architecture_betas=list(recipe.alpha_betas),
        architecture_weight_decay=recipe.alpha_weight_decay,
        hessian=False,
    )


class Pair:
    """The same search twice: tailnas's code on tailnas's network, the plain code on the reference."""

    def __init__(
        self,
        backend: str,
        order: str,
        size: dict,
        branches: int,
        images: dict | None = None,
        recipe: Recipe = RECIPE,
        device: str = "cpu",
    ) -> None:
        self.device = device
        self.images = {"in_channels": size.get("in_channels", 3), "count": 3, "sides": (8, 8), **(images or {})}
        self.branches = branches
        components = SINGLE if branches == 1 else HEADS
        self.net, self.reference = (single_pair if branches == 1 else two_branch_pair)(size, backend)
        self.net.to(device)
        alphas = random_alphas(components, 1)
        if branches == 1:
            objective = SingleBranch(self.net)
        else:
            objective = TwoBranch(self.net)
            objective.set_mixing_ratio(MU)
        self.bilevel = Bilevel(objective, moved(alphas, device), training(recipe), settings(order, recipe))
        self.plain = PlainSearch(self.reference, alphas, recipe, second_order=order == "second")
        if branches == 2:
            self.bilevel.set_learning_rates(recipe.weight_lr, RATES)
            self.plain.set_alpha_rates({name: RATES.get(name, RATES["backbone"]) for name in components})

    def batches(self, seed: int):
        return tuple(random_batch(100 * seed + branch, **self.images) for branch in range(self.branches))

    def loss(self, batches, network=None):
        network = network or self.reference
        if self.branches == 1:
            return plain_loss(network, self.plain.alphas, batches[0])
        return mixed_loss(network, self.plain.alphas, *batches, MU)

    def step(self, seed: int):
        training, validation = self.batches(2 * seed), self.batches(2 * seed + 1)
        own = [tuple(moved(batch, self.device) for batch in half) for half in (training, validation)]
        losses = self.bilevel.step(*own)
        return losses["loss"], self.plain.step(lambda: self.loss(training), lambda: self.loss(validation))


ONE = {"channels": 4, "cells": 2, "reductions": (1,)}
TWO = {"channels": 4, "cells": 3}
CASES = {
    "one branch": (ONE, 1),
    "two branches": (TWO, 2),
}
LARGER = {
    "one branch, eight cells": ({"channels": 4, "cells": 8, "in_channels": 1}, 1),
    "two branches, normal cell before the heads": ({"channels": 3, "cells": 4}, 2),
}
BY_EDGE, SIDE_BY_SIDE = "cpu_by_edge", "cpu_side_by_side"
searched = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=() if name in {BY_EDGE, SIDE_BY_SIDE} else pytest.mark.slow) for name in BACKENDS],
)
"""Gradients of all backends are quick tests of test_supernet; here those are that a CPU's default is made of."""
QUICK_GRADIENTS = {
    (BY_EDGE, "one branch", "second"),
    (SIDE_BY_SIDE, "one branch", "second"),
    (BY_EDGE, "two branches", "second"),
}
QUICK_STEPS = {(BY_EDGE, "first order"), (SIDE_BY_SIDE, "first order"), (SIDE_BY_SIDE, "two branches, four steps")}
STEPS = {
    "first order": ("first", *CASES["one branch"], 10),
    "two branches, four steps": ("first", *CASES["two branches"], 4),
    "second order": ("second", *CASES["one branch"], 10),
    **{
        f"{name}, {order} order": (order, *case, 10)
        for order in ("first", "second")
        for name, case in {"two branches": CASES["two branches"], **LARGER}.items()
    },
}


@pytest.mark.parametrize(
    ("backend", "order", "size", "branches"),
    [
        pytest.param(
            *(backend, order, *case),
            id=f"{backend}-{name}-{order}",
            marks=() if (backend, name, order) in QUICK_GRADIENTS else pytest.mark.slow,
        )
        for backend in BACKENDS
        for name, case in (CASES | LARGER).items()
        for order in ("first", "second")
    ],
)
def test_alpha_gradients(backend, order, size, branches):
    """After one step, so that the velocity is not zero; weights and statistics are as before, bit by bit.

    The quick tests leave the first order to the ten steps below.
    """
    pair = Pair(backend, order, size, branches)
    pair.step(0)
    pair.reference.load_state_dict(as_reference(pair.net.state_dict(), pair.net))
    before = {name: tensor.clone() for name, tensor in pair.net.state_dict().items()}
    training, validation = pair.batches(10), pair.batches(11)
    wanted = pair.plain.alpha_gradient(lambda: pair.loss(training), lambda: pair.loss(validation))
    pair.bilevel.alpha_step(training, validation)
    found = {name: alpha.grad for name, alpha in pair.bilevel.alphas.items()}
    assert_all_close(found, dict(zip(pair.plain.alphas, wanted, strict=True)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in pair.net.state_dict().items())


@pytest.mark.parametrize(
    ("backend", "order", "size", "branches", "steps"),
    [
        pytest.param(
            *(backend, *case),
            id=f"{backend}-{name}",
            marks=() if (backend, name) in QUICK_STEPS else pytest.mark.slow,
        )
        for backend in BACKENDS
        for name, case in STEPS.items()
    ],
)
@devices
def test_ten_steps(backend, device, order, size, branches, steps):
    """Losses along the way; weights, velocities, alphas and running statistics at the end."""
    # On a GPU the rates and Adam's step counts are float32 tensors.
    tolerance = 1e-8 if device == "cpu" else 1e-5
    pair = Pair(backend, order, size, branches, {"count": 6}, device=device)
    start = {name: alpha.detach().clone() for name, alpha in pair.plain.alphas.items()}
    for step in range(steps):
        loss, wanted = pair.step(step)
        assert relative_error(loss, wanted) < tolerance
    assert all((pair.plain.alphas[name] - start[name]).abs().max() > 0.1 for name in start)
    assert_all_close(pair.bilevel.alphas, pair.plain.alphas, tolerance)
    state = as_reference(pair.net.state_dict(), pair.net)
    assert_all_close(state, pair.reference.state_dict(), tolerance)
    velocity = {
        name: pair.bilevel.weight_optimiser.state[weight]["momentum_buffer"]
        for name, weight in pair.net.named_parameters()
    }
    wanted_velocity = {
        name: pair.plain.weight_optimizer.state[weight]["momentum_buffer"]
        for name, weight in pair.reference.named_parameters()
    }
    assert_all_close(as_reference(velocity, pair.net), wanted_velocity, tolerance)


@pytest.mark.parametrize(
    ("size", "branches", "images", "scales"),
    [
        ({**ONE, "channels": 2}, 1, {"sides": (4, 4)}, (1e-3, 1e-4, 1e-5, 1e-6)),
        pytest.param({**TWO, "channels": 2}, 2, {}, (1e-5, 1e-6), marks=pytest.mark.slow),
    ],
    ids=["one branch", "two branches"],
)
@searched
def test_second_order_tends_to_exact_differentiation(backend, size, branches, images, scales):
    """Ten times smaller eps, a hundred times smaller error, once no ReLU or maximum switches between w+ and w-.

    The exact gradient is autograd's own through the step of the plain reference. At the published scale of 0.01 it is
    the switches that dominate, in any implementation.
    """
    recipe = Recipe(weight_lr=0.1)
    pair = Pair(backend, "second", size, branches, images, recipe)
    pair.step(0)
    training, validation = pair.batches(10), pair.batches(11)
    optimizer = pair.plain.weight_optimizer
    buffers = {name: optimizer.state[w]["momentum_buffer"] for name, w in pair.reference.named_parameters()}
    step = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    with without_running_statistics(pair.reference):
        exact = gradient_through_step(
            pair.reference,
            lambda net: pair.loss(training, net),
            lambda net: pair.loss(validation, net),
            list(pair.plain.alphas.values()),
            buffers,
            xi=recipe.weight_lr,
            **step,
        )
    bilevel = pair.bilevel
    errors = []
    for scale in scales:
        with frozen_running_statistics(pair.net):
            estimate, _ = second_order(
                lambda: bilevel.objective.loss(training, bilevel.alphas)["loss"],
                lambda: bilevel.objective.loss(validation, bilevel.alphas)["loss"],
                list(bilevel.alphas.values()),
                bilevel.weights,
                learning_rate=recipe.weight_lr,
                velocities=[bilevel.weight_optimiser.state[w]["momentum_buffer"] for w in bilevel.weights],
                scale=scale,
                **step,
            )
        errors.append(relative_error(estimate, exact))
    print(dict(zip(scales, errors, strict=True)))
    assert all(fine < coarse / 50 for coarse, fine in pairwise(errors)), errors
    assert errors[-1] < 1e-8, errors


@searched
def test_gradients_of_a_tiny_network_pass_gradcheck(backend):
    """Autograd's against numerical derivatives, for the alphas and one weight of each kind."""
    net, _ = single_pair(ONE, backend)
    images, _ = random_batch(3, count=3, sides=(4, 4))
    alphas = random_alphas(SINGLE, 4)
    kinds = ("stem.0", "sep_conv_5x5.depthwise1", "dil_conv_3x3.depthwise", "pointwise2", "preprocess_newer", "odd")
    named = dict(net.named_parameters())
    weights = [next(weight for name, weight in named.items() if kind in name) for kind in kinds]

    def logits(normal, reduce, *_):
        with frozen_running_statistics(net):
            return net(images, {"normal": normal, "reduce": reduce})

    assert torch.autograd.gradcheck(logits, (*alphas.values(), *weights), fast_mode=True)
