"""One path of the super-network: the sub-network of a genotype, with the weights that all paths share.

A path computes what the derived network of the same genotype computes, with the search network's operations: the two
chosen operations of each node, each with weight 1, and nothing else (single-path one-shot training, 1904.00420).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tailnas.genotype.genotype import Edges, Genotype
from tailnas.genotype.primitives import NODES, edge_index
from tailnas.space.cell import SearchCell
from tailnas.space.operations import concatenated, fast_layout
from tailnas.space.supernet import SuperNet, pooled


def path_features(network: SuperNet, genotype: Genotype, images: Tensor) -> Tensor:
    """Globally pooled output (N, D) of the last cell along one path. `genotype`: its cells, no heads."""
    older = newer = fast_layout(network.stem(fast_layout(images)))
    for cell in network.cells:
        assert isinstance(cell, SearchCell)
        older, newer = newer, path_cell(cell, genotype.reduce if cell.reduction else genotype.normal, older, newer)
    return pooled(newer)


def path_logits(network: SuperNet, genotype: Genotype, images: Tensor) -> Tensor:
    """Logits (N, K) of normalised images (N, in_channels, H, W) along one path."""
    return network.classifier(path_features(network, genotype, images))


def path_cell(cell: SearchCell, edges: Edges, older: Tensor, newer: Tensor) -> Tensor:
    """Output (N, 4 * channels, H, W) of a search cell that keeps `edges` alone."""
    states = [cell.preprocess_older(older), cell.preprocess_newer(newer)]
    for node in range(NODES):
        first, second = (
            cell.edges[edge_index(node, source)].get_submodule(primitive)(states[source])
            for primitive, source in edges[2 * node : 2 * node + 2]
        )
        states.append(first + second)
    return concatenated(states[2:])


@contextmanager
def path_statistics(network: SuperNet, genotype: Genotype, batches: Iterable[Tensor]) -> Iterator[None]:
    """The network in eval mode with the BatchNorm statistics of this path: means over `batches` of images.

    Statistics that all paths share fit none of them (method: section 7). Without any batch the shared ones stay. They
    are put back bit by bit at the end, as is the mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [{name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    training = network.training
    batches = list(batches)
    try:
        if batches:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a mean over all batches instead of a moving one
            network.train()
            with torch.no_grad():
                for images in batches:
                    path_features(network, genotype, images)
        network.eval()
        yield
    finally:
        for norm, buffers, momentum in zip(norms, kept, momenta, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers(recurse=False):
                buffer.copy_(buffers[name])
        network.train(training)
