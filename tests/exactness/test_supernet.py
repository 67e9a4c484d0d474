"""tailnas's super-networks against the plain reference: float64, relative error under 1e-8."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain_darts import without_running_statistics
from benchmarks.plain_search import mixed_loss, plain_loss
from tailnas.space.supernet import frozen_running_statistics

from .data import (
    HEADS,
    LARGER_SIZES,
    LARGER_TWO_BRANCH_SIZES,
    SINGLE,
    SIZES,
    TWO_BRANCH_SIZES,
    backends,
    devices,
    moved,
    quick_and_slow,
    random_alphas,
    random_batch,
    single_pair,
    two_branch_pair,
)
from .exact import assert_all_close
from .layout import as_reference


def gradients(loss, alphas, network):
    """Alphas' and weights' gradients of one loss, under one set of names."""
    names, weights = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, [*alphas.values(), *weights], allow_unused=True)
    of_alphas = {name: g for name, g in zip(alphas, found[: len(alphas)], strict=True) if g is not None}
    of_weights = dict(zip(names, found[len(alphas) :], strict=True))
    return of_alphas, of_weights


def statistics(network):
    return {name: t for name, t in network.state_dict().items() if "running_" in name or "num_batches" in name}


@pytest.mark.parametrize(
    "size", quick_and_slow({k: (v,) for k, v in SIZES.items()}, {k: (v,) for k, v in LARGER_SIZES.items()})
)
@devices
@backends
def test_forward_gradients_and_statistics_of_one_branch(backend, device, size):
    net, reference = single_pair(size, backend)
    net.to(device)
    alphas = random_alphas(SINGLE, 1)
    batch = random_batch(2, **size)
    own_alphas, (own_images, own_labels) = moved(alphas, device), moved(batch, device)
    logits, wanted = net(own_images, own_alphas), reference(batch[0], alphas)
    assert_all_close({"logits": logits}, {"logits": wanted})
    of_alphas, of_weights = gradients(F.cross_entropy(logits, own_labels), own_alphas, net)
    wanted_alphas, wanted_weights = gradients(F.cross_entropy(wanted, batch[1]), alphas, reference)
    assert_all_close(of_alphas, wanted_alphas)
    assert_all_close(as_reference(of_weights, net), wanted_weights)
    assert_all_close(as_reference(statistics(net), net), statistics(reference))
    net.eval(), reference.eval()
    assert_all_close({"logits": net(own_images, own_alphas)}, {"logits": reference(batch[0], alphas)})


@pytest.mark.parametrize(("size", "mix"), quick_and_slow(TWO_BRANCH_SIZES, LARGER_TWO_BRANCH_SIZES))
@devices
@backends
def test_forward_gradients_and_statistics_of_two_branches(backend, device, size, mix):
    net, reference = two_branch_pair(size, backend)
    net.to(device)
    alphas = random_alphas(HEADS, 1)
    (x_i, y_i), (x_c, y_c) = random_batch(2, **size), random_batch(3, **size)
    own_alphas, (own_x_i, own_y_i, own_x_c, own_y_c) = moved(alphas, device), moved((x_i, y_i, x_c, y_c), device)
    mu = 0.3
    outputs = net(own_x_i, own_x_c, own_alphas, torch.tensor(mu, dtype=torch.float64, device=device), mix)
    log_probabilities = F.log_softmax(outputs, dim=1)
    loss = mu * F.cross_entropy(outputs, own_y_i) + (1 - mu) * F.cross_entropy(outputs, own_y_c)
    wanted_loss = mixed_loss(reference, alphas, (x_i, y_i), (x_c, y_c), mu, mix)
    of_alphas, of_weights = gradients(loss, own_alphas, net)
    wanted_alphas, wanted_weights = gradients(wanted_loss, alphas, reference)
    assert_all_close(of_alphas, wanted_alphas)
    assert_all_close(as_reference(of_weights, net), wanted_weights)
    assert_all_close(as_reference(statistics(net), net), statistics(reference))
    with without_running_statistics(reference):
        assert_all_close({"outputs": log_probabilities}, {"outputs": reference(x_i, x_c, alphas, mu, mix)})
    net.eval(), reference.eval()
    found = F.log_softmax(net.predict_logits(own_x_i, own_alphas), dim=1)
    assert_all_close({"outputs": found}, {"outputs": reference(x_i, x_i, alphas, 0.5)})


@pytest.mark.parametrize(("mu", "mix"), [(0.0, "probabilities"), (1.0, "probabilities"), (1.0, "logits")])
def test_a_mixing_ratio_of_zero_or_one_trains_one_branch_alone(mu, mix):
    net, reference = two_branch_pair({"channels": 2, "cells": 3}, "plain")
    alphas = random_alphas(HEADS, 1)
    (x_i, y_i), (x_c, y_c) = random_batch(2), random_batch(3)
    outputs = net(x_i, x_c, alphas, mu, mix)
    loss = mu * F.cross_entropy(outputs, y_i) + (1 - mu) * F.cross_entropy(outputs, y_c)
    found, _ = gradients(loss, alphas, net)
    wanted, _ = gradients(mixed_loss(reference, alphas, (x_i, y_i), (x_c, y_c), mu, mix), alphas, reference)
    assert_all_close(found, wanted)
    idle = found["class_head" if mu == 1 else "instance_head"]
    assert torch.equal(idle, torch.zeros_like(idle))


@backends
def test_flat_images_tie_in_max_pooling_and_still_give_the_same_gradients(backend):
    """Real images have flat grounds; which of several equal pixels gets the gradient must not depend on the code."""
    size = {"channels": 4, "cells": 3}
    net, reference = single_pair(size, backend)
    alphas = random_alphas(SINGLE, 1)
    images, labels = random_batch(2, sides=(16, 16))
    images[:, :, :, 5:] = images[:, :, :1, :1]
    of_alphas, of_weights = gradients(plain_loss(net, alphas, (images, labels)), alphas, net)
    wanted_alphas, wanted_weights = gradients(plain_loss(reference, alphas, (images, labels)), alphas, reference)
    assert_all_close(of_alphas, wanted_alphas)
    assert_all_close(as_reference(of_weights, net), wanted_weights)


@backends
def test_frozen_running_statistics_change_nothing_but_the_statistics(backend):
    size = {"channels": 2, "cells": 3}
    net, reference = single_pair(size, backend)
    alphas = random_alphas(SINGLE, 1)
    images, _ = random_batch(2)
    before = {name: tensor.clone() for name, tensor in statistics(net).items()}
    with frozen_running_statistics(net):
        frozen = net(images, alphas)
    assert all(torch.equal(tensor, before[name]) for name, tensor in statistics(net).items())
    assert_all_close({"logits": frozen}, {"logits": reference(images, alphas)})


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
@backends
def test_float32_alpha_gradients_are_as_accurate_as_the_plain_network(backend, seed):
    """Against float64, at most three times the error that the plain network makes in float32."""
    size = {"channels": 8, "cells": 3}
    net, reference = single_pair(size, backend, seed)
    alphas = random_alphas(SINGLE, seed + 10)
    images, labels = random_batch(seed + 20, count=16, sides=(16, 16))
    exact, _ = gradients(plain_loss(reference, alphas, (images, labels)), alphas, reference)
    single = {name: alpha.detach().float().requires_grad_() for name, alpha in alphas.items()}
    batch = images.float(), labels
    found, _ = gradients(plain_loss(net.float(), single, batch), single, net)
    plain, _ = gradients(plain_loss(reference.float(), single, batch), single, reference)

    def error(of):
        return sum(float((of[name].double() - exact[name]).square().sum()) for name in exact) ** 0.5

    scale = sum(float(exact[name].square().sum()) for name in exact) ** 0.5
    assert error(found) <= 3 * max(error(plain), 1e-7 * scale), (error(found) / scale, error(plain) / scale)
