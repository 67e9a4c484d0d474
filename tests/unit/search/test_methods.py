"""The registry of search methods."""

import pkgutil
from typing import get_args

import pytest
import torch

import tailnas.search.methods as methods
from tailnas.errors import UserError
from tailnas.params import Method
from tailnas.space.primitives import NODES, PRIMITIVES
from tailnas.space.random_genotype import random_cell


def test_every_module_is_a_method_of_the_parameters_and_the_other_way_round():
    modules = {module.name for module in pkgutil.iter_modules(methods.__path__)}
    assert modules == set(get_args(Method))


@pytest.mark.parametrize("name", get_args(Method))
def test_every_method_searches(name):
    assert callable(methods.method(name))


@pytest.mark.parametrize("name", ["", "DARTS", "darts/../bbn", "objective", "__init__"])
def test_unknown_methods_are_named(name):
    with pytest.raises(UserError, match=r"^study.methods: .*; allowed: darts, "):
        methods.method(name)


def test_random_cells_are_uniform():
    """Chi-square over inputs and primitives of 3,000 cells; the critical values are those of p = 1e-6."""
    generator = torch.Generator().manual_seed(0)
    cells = [random_cell(generator) for _ in range(3000)]
    primitives = torch.zeros(len(PRIMITIVES))
    for node in range(NODES):
        inputs = torch.zeros(node + 2)
        for cell in cells:
            pair = cell[2 * node : 2 * node + 2]
            assert pair[0][1] < pair[1][1] <= node + 1
            for primitive, source in pair:
                primitives[PRIMITIVES.index(primitive)] += 1
                inputs[source] += 1
        expected = 6000 / (node + 2)
        # Two of node + 2 inputs without replacement scatter less than independent draws: the bound is on the safe side
        assert float(((inputs - expected) ** 2 / expected).sum()) < 36
    assert primitives[0] == 0, "none is never drawn"
    expected = float(primitives.sum()) / 7
    assert float(((primitives[1:] - expected) ** 2 / expected).sum()) < 39


def test_random_cells_follow_the_seed():
    draw = [random_cell(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]
