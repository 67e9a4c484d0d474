"""Genotypes drawn at random: the control of a search, and the paths that a single-path super-network trains."""

from __future__ import annotations

import torch

from tailnas.genotype.genotype import CELLS, Genotype
from tailnas.genotype.primitives import NODES, PRIMITIVES


def random_cell(generator: torch.Generator) -> list[tuple[str, int]]:
    """Two distinct inputs per node and one of the seven primitives on each, all uniform draws (method: section 6)."""
    edges: list[tuple[str, int]] = []
    for node in range(NODES):
        inputs = sorted(torch.randperm(2 + node, generator=generator)[:2].tolist())
        choices = torch.randint(1, len(PRIMITIVES), (2,), generator=generator).tolist()
        edges += [(PRIMITIVES[choice], source) for choice, source in zip(choices, inputs, strict=True)]
    return edges


def random_genotype(generator: torch.Generator, *, own_head: bool = False) -> Genotype:
    """A normal cell, then a reduction cell and, where asked for, an instance head, each by `random_cell`."""
    normal, reduce = (tuple(random_cell(generator)) for _ in range(2))
    return Genotype(normal, reduce, tuple(random_cell(generator)) if own_head else None)


def mutated(genotype: Genotype, generator: torch.Generator) -> Genotype:
    """`genotype` with one of its 16 edges changed: another primitive, or another input (evenly; a reading).

    The first node has two inputs and takes both, so that an edge of it changes its primitive.
    """
    cells = {name: list(getattr(genotype, name)) for name in CELLS}
    edges = cells[CELLS[_below(len(CELLS), generator)]]
    position = _below(len(edges), generator)
    node = position // 2
    primitive, source = edges[position]
    taken = {edges[2 * node][1], edges[2 * node + 1][1]}
    free = [candidate for candidate in range(2 + node) if candidate not in taken]
    if free and _below(2, generator):
        source = free[_below(len(free), generator)]
    else:
        others = [candidate for candidate in PRIMITIVES[1:] if candidate != primitive]
        primitive = others[_below(len(others), generator)]
    edges[position] = (primitive, source)
    edges[2 * node : 2 * node + 2] = sorted(edges[2 * node : 2 * node + 2], key=lambda edge: edge[1])
    return Genotype(normal=tuple(cells["normal"]), reduce=tuple(cells["reduce"]))


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
