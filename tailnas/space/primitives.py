"""The eight candidate operations of an edge, by name, and the shape of a cell (DARTS, arXiv 1806.09055)."""

from torch import nn

from tailnas.space.operations import DilatedConv, FactorizedReduce, PoolNorm, SeparableConv

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
"""Intermediate nodes of a cell. Node i takes one edge from each of its i + 2 predecessors."""

EDGES = sum(node + 2 for node in range(NODES))
"""Edges of a cell (14), ordered by target node, then by source."""


def edge_index(node: int, source: int) -> int:
    """Row of the alphas for the edge from `source` (0 and 1 are the cell's inputs) into intermediate node `node`."""
    return sum(earlier + 2 for earlier in range(node)) + source


def max_pool(stride: int) -> nn.Module:
    return nn.MaxPool2d(3, stride=stride, padding=1)


def average_pool(stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


def make_operation(primitive: str, channels: int, stride: int, *, search: bool) -> nn.Module:
    """One primitive on `channels` feature maps.

    In the search network (`search=True`) no BatchNorm has affine weights and pooling is followed by one; in a derived
    network every BatchNorm is affine and pooling has none. `none` is no module: it contributes nothing anywhere.
    """
    affine = not search
    match primitive:
        case "max_pool_3x3":
            return PoolNorm(max_pool(stride), channels) if search else max_pool(stride)
        case "avg_pool_3x3":
            return PoolNorm(average_pool(stride), channels) if search else average_pool(stride)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=affine)
        case "sep_conv_3x3":
            return SeparableConv(channels, kernel=3, stride=stride, affine=affine)
        case "sep_conv_5x5":
            return SeparableConv(channels, kernel=5, stride=stride, affine=affine)
        case "dil_conv_3x3":
            return DilatedConv(channels, kernel=3, stride=stride, affine=affine)
        case "dil_conv_5x5":
            return DilatedConv(channels, kernel=5, stride=stride, affine=affine)
    raise ValueError(f"no operation is called {primitive!r}; there are {', '.join(PRIMITIVES[1:])}")
