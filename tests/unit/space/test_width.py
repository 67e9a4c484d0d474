"""Channels fitted to a budget of parameters (method: section 6)."""

import pytest

from tailnas.errors import UserError
from tailnas.space.genotype import DARTS_V1, DARTS_V2
from tailnas.space.network import Network
from tailnas.space.width import fitted_channels, parameter_count


def builder(genotype):
    return lambda channels: Network(genotype, channels, 4, 10, in_channels=1, reductions=(1, 2))


def test_published_size():
    assert parameter_count(Network(DARTS_V1, 36, 20, 10)) == 3_169_414
    assert fitted_channels(lambda channels: Network(DARTS_V1, channels, 20, 10), 3_200_000) == 36


@pytest.mark.parametrize("genotype", [DARTS_V1, DARTS_V2])
@pytest.mark.parametrize("parameters", [80_000, 300_000, 5_000_000])
def test_no_other_width_is_closer(genotype, parameters):
    build = builder(genotype)
    best = fitted_channels(build, parameters)
    distance = {c: abs(parameter_count(build(c)) - parameters) for c in (best - 1, best, best + 1) if c >= 1}
    assert min(distance, key=distance.get) == best
    assert distance[best] <= 0.1 * parameters


@pytest.mark.parametrize("parameters", [1_000, 4_000, 10**9])
def test_budget_that_no_width_meets(parameters):
    with pytest.raises(UserError, match=rf"retrain.parameters: {parameters} .*channels\)"):
        fitted_channels(builder(DARTS_V1), parameters)


def test_exact_budget():
    build = builder(DARTS_V2)
    for channels in (2, 3, 17):
        assert fitted_channels(build, parameter_count(build(channels))) == channels
