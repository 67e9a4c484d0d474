"""Channels fitted to a budget of parameters (method: section 6)."""

import pytest
import torch

from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.retrain.width import fitted_channels, halved, parameter_count, smallest_size
from tailnas.space.network import Network, doubled
from tailnas.space.random_genotype import random_genotype


def builder(genotype):
    return lambda channels: Network(genotype, channels, 4, 10, in_channels=1, reductions=(1, 2))


def test_channels_of_stages():
    assert doubled(3, 3) == (3, 6, 12) and doubled(5, 1) == (5,)
    assert halved(48, 3) == (12, 24, 48) and halved(49, 3) == (12, 25, 49) and halved(50, 3) == (13, 25, 50)
    assert halved(1, 3) == (1, 2, 2) and halved(7, 1) == (7,)


def test_published_size():
    assert parameter_count(Network(DARTS_V1, 36, 20, 10)) == 3_169_414
    assert fitted_channels(lambda channels: Network(DARTS_V1, channels, 20, 10), 3_169_414) == (36, 72, 144)


@pytest.mark.parametrize("genotype", [DARTS_V1, DARTS_V2])
@pytest.mark.parametrize("parameters", [40_000, 80_000, 300_000, 5_000_000])
def test_no_other_width_is_closer(genotype, parameters):
    build = builder(genotype)
    best = fitted_channels(build, parameters)
    last = best[-1]
    distance = {c: abs(parameter_count(build(halved(c, 3))) - parameters) for c in (last - 1, last, last + 1) if c >= 1}
    assert min(distance, key=distance.get) == last
    assert distance[last] <= 0.05 * parameters


@pytest.mark.parametrize("seed", range(4))
def test_two_genotypes_lie_within_a_tenth_of_each_other(seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = []
    for genotype in (random_genotype(generator), random_genotype(generator), DARTS_V2, Genotype(network="resnet32")):
        build = builder(genotype)
        sizes.append(parameter_count(build(fitted_channels(build, 66_000))))
    assert max(sizes) <= 1.1 * min(sizes)


@pytest.mark.parametrize("primitive", ["max_pool_3x3", "skip_connect", "sep_conv_3x3"])
def test_the_narrowest_network_can_be_trained(primitive):
    cell = ((primitive, 0), (primitive, 1)) * 4
    build = builder(Genotype(cell, cell))
    network = build(fitted_channels(build, smallest_size(build)))
    assert parameter_count(network) == smallest_size(build)
    network(torch.randn(4, 1, 16, 16)).sum().backward()


@pytest.mark.parametrize("parameters", [1_000, 10**9])
def test_budget_that_no_width_meets(parameters):
    with pytest.raises(UserError, match=rf"^retrain\.network\.parameters: {parameters} .*; allowed: .*channels\)"):
        fitted_channels(builder(DARTS_V1), parameters)


def test_exact_budget():
    build = builder(DARTS_V2)
    for channels in (2, 3, 17):
        assert fitted_channels(build, parameter_count(build(channels))) == doubled(channels, 3)
