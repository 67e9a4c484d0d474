"""Paths of the super-network: what they compute, what they leave alone."""

import pytest
import torch
from torch import nn

from tailnas.genotype.genotype import DARTS_V2, Genotype
from tailnas.space.path import path_features, path_logits, path_statistics
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tests.unit.space.sharing import derived_network

IMAGES = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
CONVOLUTIONS = Genotype(
    normal=tuple(("sep_conv_3x3", source) for source in (0, 1, 0, 1, 1, 2, 2, 3)),
    reduce=tuple(("dil_conv_5x5", source) for source in (0, 1, 0, 2, 1, 2, 0, 3)),
)
"""Without pooling, where search network and derived network differ by a BatchNorm."""


@pytest.fixture
def network():
    with seeded_initialisation(0):
        return SuperNet(2, 4, 3, 1, reductions=(1, 2))


def test_a_path_is_the_derived_network_with_shared_weights(network):
    derived = derived_network(CONVOLUTIONS, network)
    for mode in (True, False):
        torch.testing.assert_close(path_logits(network.train(mode), CONVOLUTIONS, IMAGES), derived.train(mode)(IMAGES))


def test_only_the_path_is_trained(network):
    path_logits(network, CONVOLUTIONS, IMAGES).sum().backward()
    touched = {name for name, weight in network.named_parameters() if weight.grad is not None}
    chosen = {
        f"cells.{index}.edges.{sum(range(2, 2 + node)) + source}.{primitive}."
        for index, cell in enumerate(network.cells)
        for position, (primitive, source) in enumerate(CONVOLUTIONS.reduce if cell.reduction else CONVOLUTIONS.normal)
        for node in [position // 2]
    }
    on_edges = {name for name in touched if ".edges." in name}
    assert {prefix for prefix in chosen if any(name.startswith(prefix) for name in on_edges)} == chosen
    assert all(any(name.startswith(prefix) for prefix in chosen) for name in on_edges)


def test_statistics_are_those_of_the_path_and_leave_no_trace(network):
    before = {name: values.clone() for name, values in network.state_dict().items()}
    network.train()
    batches = [IMAGES[:3], IMAGES[3:]]
    with torch.no_grad(), path_statistics(network, DARTS_V2, batches):
        assert not network.training
        stem = network.stem[1]
        maps = [network.stem[0](images) for images in batches]
        means = torch.stack([values.mean((0, 2, 3)) for values in maps]).mean(0)
        variances = torch.stack([values.var((0, 2, 3)) for values in maps]).mean(0)
        torch.testing.assert_close(stem.running_mean, means)
        torch.testing.assert_close(stem.running_var, variances)
        estimated = path_features(network, DARTS_V2, IMAGES)
    assert network.training
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    assert all(module.momentum == 0.1 for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad(), path_statistics(network, DARTS_V2, []):
        shared = path_features(network, DARTS_V2, IMAGES)
    torch.testing.assert_close(shared, path_features(network.eval(), DARTS_V2, IMAGES))
    assert not torch.allclose(shared, estimated)
