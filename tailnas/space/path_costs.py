"""Multiply-adds of the sub-networks of a super-network, without building each."""

from __future__ import annotations

from functools import cache

import torch

from tailnas.genotype.genotype import Edges, Genotype
from tailnas.genotype.primitives import NODES, PRIMITIVES
from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.network import Network
from tailnas.space.settings import Space


class PathCosts:
    """Multiply-adds of one image through the sub-network of a genotype, as wide and deep as the super-network.

    They are a sum over edges, so that a few networks that differ from one of poolings by a single edge tell all.
    """

    def __init__(self, space: Space, num_classes: int, in_channels: int, image_size: int) -> None:
        def counted(genotype: Genotype) -> int:
            with torch.device("meta"):
                network = candidate_network(genotype, space, num_classes, in_channels)
            return multiply_adds(network, in_channels, image_size)

        pools: Edges = tuple(("max_pool_3x3", source) for _ in range(NODES) for source in (0, 1))
        self.base = counted(Genotype(pools, pools))
        self.edges: dict[tuple[str, bool, str], int] = {}
        for primitive in PRIMITIVES[1:]:
            for inner in (False, True):
                changed = (*pools[:-1], (primitive, 2 if inner else 1))
                self.edges["reduce", inner, primitive] = counted(Genotype(pools, changed)) - self.base
            normal = counted(Genotype((*pools[:-1], (primitive, 1)), pools)) - self.base
            self.edges |= {("normal", False, primitive): normal, ("normal", True, primitive): normal}

    def __call__(self, genotype: Genotype) -> int:
        cells = {"normal": genotype.normal, "reduce": genotype.reduce}
        return self.base + sum(
            self.edges[name, source >= 2, primitive] for name, edges in cells.items() for primitive, source in edges
        )


@cache
def path_costs(space: Space, num_classes: int, in_channels: int, image_size: int) -> PathCosts:
    """Counted once for each shape: some twenty networks have to be built for it."""
    return PathCosts(space, num_classes, in_channels, image_size)


def candidate_network(genotype: Genotype, space: Space, num_classes: int, in_channels: int) -> Network:
    """The derived network of `genotype`, as wide and deep as the super-network of `space`: L + 1 cells."""
    return Network(
        genotype, space.channels, space.cells + 1, num_classes, in_channels=in_channels, reductions=space.reductions
    )
