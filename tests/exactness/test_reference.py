"""The plain reference itself, held against counted parameters, autograd and finite differences."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain_darts import (
    EDGES,
    PRIMITIVES,
    Cell,
    SearchNetwork,
    TwoBranchNetwork,
    initial_alphas,
    without_running_statistics,
)
from benchmarks.plain_search import PlainSearch, Recipe, mixed_loss, plain_loss, second_order_gradient

from .exact import gradient_through_step, relative_error

HEADS = ("normal", "reduce", "instance_head", "class_head")


def batch(generator, count=4, size=8, classes=5, channels=3):
    images = torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)
    return images, torch.randint(classes, (count,), generator=generator)


def large_alphas(names, generator):
    return {
        name: torch.randn(EDGES, len(PRIMITIVES), generator=generator, dtype=torch.float64).requires_grad_()
        for name in names
    }


@pytest.mark.parametrize(("channels", "cells", "parameters"), [(16, 8, 1_930_618), (8, 5, 394_210), (4, 3, 72_854)])
def test_parameter_counts(channels, cells, parameters):
    network = SearchNetwork(channels, cells, 10)
    assert sum(weight.numel() for weight in network.parameters()) == parameters


def test_edges_are_ordered_node_by_node_and_only_the_inputs_of_a_reduction_cell_are_halved():
    cell = Cell(8, 8, 4, halves=True, halved=False)
    strides = [edge.operations["max_pool_3x3"][0].stride for edge in cell.edges]
    assert strides == [2, 2, 2, 2, 1, 2, 2, 1, 1, 2, 2, 1, 1, 1]
    assert cell(torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 8, 8), torch.ones(14, 8)).shape == (1, 16, 4, 4)


def test_the_chosen_primitive_alone_remains_when_its_alpha_is_large():
    torch.manual_seed(0)
    network = SearchNetwork(4, 1, 3, reductions=()).double()
    images, _ = batch(torch.Generator().manual_seed(0))
    alphas = {"normal": torch.zeros(EDGES, 8, dtype=torch.float64), "reduce": torch.zeros(EDGES, 8)}
    alphas["normal"][:, PRIMITIVES.index("none")] = 1e3
    assert torch.equal(network(images, alphas), network.classifier.bias.expand(4, 3))
    alphas["normal"][0, PRIMITIVES.index("skip_connect")] = 1e4
    stem = network.backbone.stem(images)
    first_node = network.backbone.cells[0].input_0(stem).mean(dim=(2, 3))
    features = torch.cat([first_node, torch.zeros(4, 12, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(network(images, alphas), network.classifier(features))


def test_alpha_and_weight_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    network = SearchNetwork(2, 2, 3, reductions=(1,)).double()
    data = batch(generator, classes=3)
    alphas = large_alphas(("normal", "reduce"), generator)
    watched = [*alphas.values(), network.backbone.stem[0].weight, network.classifier.weight]
    gradients = torch.autograd.grad(plain_loss(network, alphas, data), watched)
    for tensor, gradient in zip(watched, gradients, strict=True):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        step = 1e-6
        with torch.no_grad():
            tensor += step * direction
            above = plain_loss(network, alphas, data)
            tensor -= 2 * step * direction
            below = plain_loss(network, alphas, data)
            tensor += step * direction
        assert float((above - below) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_the_estimate_is_of_second_order_where_the_loss_is_smooth():
    """Ten times smaller eps, a hundred times smaller error, until rounding takes over."""
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    network = torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)).double()
    alpha = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    training, validation = (torch.randn(5, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    weights = list(network.parameters())
    buffers = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in weights]
    settings = {"xi": 0.3, "momentum": 0.9, "weight_decay": 0.1}

    def training_loss(model):
        return model(training * alpha.sigmoid()).square().sum()

    def validation_loss(model):
        return model(validation * alpha.sigmoid()).sin().sum()

    names = [name for name, _ in network.named_parameters()]
    exact = gradient_through_step(
        network, training_loss, validation_loss, [alpha], dict(zip(names, buffers, strict=True)), **settings
    )
    errors = [
        relative_error(
            second_order_gradient(
                lambda: training_loss(network),
                lambda: validation_loss(network),
                [alpha],
                weights,
                buffers,
                radius=radius,
                **settings,
            ),
            exact,
        )
        for radius in (1e-1, 1e-2, 1e-3, 1e-4)
    ]
    for coarse, fine in pairwise(errors):
        assert fine == pytest.approx(coarse / 100, rel=0.2)
    assert errors[-1] < 1e-8


@pytest.mark.parametrize("steps_before", [0, 2])
def test_second_order_tends_to_exact_differentiation(steps_before):
    """The search network has kinks (ReLU, max pooling): the estimate is exact once none lies between w+ and w-.

    Momentum v is zero before the first step and is not afterwards.
    """
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    network = SearchNetwork(4, 2, 5, reductions=(1,)).double()
    alphas = large_alphas(("normal", "reduce"), generator)
    training, validation = batch(generator), batch(generator)
    search = PlainSearch(network, alphas, Recipe(), second_order=True)

    def losses():
        return lambda: plain_loss(network, alphas, training), lambda: plain_loss(network, alphas, validation)

    for _ in range(steps_before):
        search.step(*losses())
    buffers = {
        name: search.weight_optimizer.state[weight].get("momentum_buffer", torch.zeros_like(weight))
        for name, weight in network.named_parameters()
    }
    with without_running_statistics(network):
        exact = gradient_through_step(
            network,
            lambda net: plain_loss(net, alphas, training),
            lambda net: plain_loss(net, alphas, validation),
            list(alphas.values()),
            buffers,
            xi=0.025,
            momentum=0.9,
            weight_decay=3e-4,
        )
    before = [tensor.clone() for tensor in network.state_dict().values()]
    errors = {radius: relative_error(search.alpha_gradient(*losses(), radius), exact) for radius in (1e-2, 1e-6, 1e-7)}
    assert errors[1e-6] < 1e-8 and errors[1e-7] < 1e-8, errors
    assert errors[1e-2] > 1e-3, "kinks are crossed at the published radius"
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


def test_mixed_logits_are_the_published_sum_and_mu_one_half_is_inference():
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    network = TwoBranchNetwork(4, 3, 5).double()
    with torch.no_grad():
        network.bias.normal_(generator=generator)
    alphas = large_alphas(HEADS, generator)
    (x_i, y_i), (x_c, y_c) = batch(generator), batch(generator)
    with without_running_statistics(network):
        own_i, own_c = network.branches(x_i, x_c, alphas)
        z = 2 * (0.3 * own_i + 0.7 * own_c) + network.bias
        wanted = 0.3 * F.cross_entropy(z, y_i) + 0.7 * F.cross_entropy(z, y_c)
        torch.testing.assert_close(mixed_loss(network, alphas, (x_i, y_i), (x_c, y_c), 0.3), wanted)
        half = network(x_i, x_i, alphas, 0.5)
        own_i, own_c = network.branches(x_i, x_i, alphas)
        torch.testing.assert_close(half, F.log_softmax(own_i + own_c + network.bias, dim=1))
        mixture = network(x_i, x_c, alphas, 0.3, "probabilities").exp()
        torch.testing.assert_close(mixture.sum(1), torch.ones(4, dtype=torch.float64))


def test_alpha_steps_leave_running_statistics_alone_and_weight_steps_move_them():
    generator = torch.Generator().manual_seed(4)
    torch.manual_seed(4)
    network = TwoBranchNetwork(2, 3, 3).double()
    alphas = initial_alphas(HEADS, generator, torch.float64)
    search = PlainSearch(network, alphas, Recipe(), second_order=True)
    data = [batch(generator, classes=3) for _ in range(2)]

    def loss():
        return mixed_loss(network, alphas, *data, 0.5)

    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    search.alpha_gradient(loss, loss)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    search.step(loss, loss)
    counts = {int(tensor) for name, tensor in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {1, 2}, "each head sees its own batch, the backbone both"
