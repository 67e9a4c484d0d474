"""Names of the eight candidate operations of an edge, and the shape of a cell (DARTS, arXiv 1806.09055)."""

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
