"""Channels fitted to a budget of parameters (method: section 6)."""

from itertools import product

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


class Sized(torch.nn.Module):
    """As many numbers as `size` says of the last channels; three stages."""

    def __init__(self, channels, size):
        super().__init__()
        self.reductions = (1, 2)
        last = channels if isinstance(channels, int) else channels[-1]
        self.weight = torch.nn.Parameter(torch.empty(size(last)))


@pytest.mark.parametrize(
    "size", [lambda c: 3 * c + 2, lambda c: 100 * c, lambda c: 5 * c * c], ids=["3c", "100c", "5c2"]
)
def test_against_every_width(size):
    """The closest of all widths, the narrower of two; refused where that is over a twentieth of the budget away."""
    sizes = {c: size(halved(c, 3)[-1]) for c in range(1, 4097)}
    refused = 0
    for budget in [*range(1, 400), 995, 1000, 1050, 1052, 1053, 1100, 9_999, 10_000, 10_050]:
        best = min(sizes, key=lambda c: (abs(sizes[c] - budget), c))
        if abs(sizes[best] - budget) * 20 > budget:
            refused += 1
            with pytest.raises(UserError, match="is met by no number"):
                fitted_channels(lambda channels: Sized(channels, size), budget)
        else:
            assert fitted_channels(lambda channels: Sized(channels, size), budget) == halved(best, 3)
    assert refused
    assert smallest_size(lambda channels: Sized(channels, size)) == size(2), "two, after a reduction"


def test_the_widest_network_has_4096_channels():
    def build(channels):
        return Sized(channels, lambda c: c)

    assert fitted_channels(build, 4096)[-1] == fitted_channels(build, 4300)[-1] == 4096
    with pytest.raises(UserError):
        fitted_channels(build, 4320)


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


@pytest.mark.parametrize("parameters", [*range(9_000, 60_000, 6_000), 25_000])
def test_a_narrow_resnet_meets_budgets_between_its_halved_widths(parameters):
    """ResNet-32 with (4, 7, 14) and (4, 8, 15) channels has 23,185 and 27,033 parameters."""
    build = builder(Genotype(network="resnet32"))

    def distance(widths):
        return abs(parameter_count(build(widths)) - parameters)

    widths = fitted_channels(build, parameters)
    assert distance(widths) <= 0.05 * parameters
    around = [halved(channels, 3) for channels in range(max(1, widths[-1] - 1), widths[-1] + 2)]
    ends = sorted(around, key=distance)[:2]
    if distance(ends[0]) <= 0.05 * parameters:
        assert widths == ends[0]
    else:
        assert distance(widths) == min(map(distance, product(*zip(*ends, strict=True))))


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
