"""Genotypes drawn at random, and their mutations."""

import torch

from tailnas.genotype.primitives import NODES, PRIMITIVES
from tailnas.space.random_genotype import mutated, random_cell, random_genotype


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


def test_random_genotypes_follow_the_seed_and_are_in_order():
    one, same, other = (random_genotype(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one == same != other and one.normal != one.reduce
    assert one == one.in_order() and list(one.components()) == ["normal", "reduce"]


def test_a_mutation_changes_one_edge():
    generator = torch.Generator().manual_seed(0)
    genotype, kinds = random_genotype(generator), set()
    for _ in range(300):
        child = mutated(genotype, generator)
        removed, added = set(), set()
        for name in ("normal", "reduce"):
            for node in range(NODES):
                mine, its = (set(getattr(g, name)[2 * node : 2 * node + 2]) for g in (genotype, child))
                removed |= {(name, node, *edge) for edge in mine - its}
                added |= {(name, node, *edge) for edge in its - mine}
        assert child == child.in_order()
        ((*place, primitive, source),), ((*there, other, input_),) = removed, added
        assert place == there and (primitive != other) != (source != input_)
        kinds.add("primitive" if primitive != other else "input")
        genotype = child
    assert kinds == {"primitive", "input"}


def test_a_random_head_leaves_the_other_cells_as_they_are():
    shared = random_genotype(torch.Generator().manual_seed(5))
    own = random_genotype(torch.Generator().manual_seed(5), own_head=True)
    assert (own.normal, own.reduce) == (shared.normal, shared.reduce)
    assert own.instance_head not in (None, own.normal) and shared.instance_head is None
