"""Genotypes: the discrete cells that a search ends with, and how they are derived from the alphas."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tailnas.genotype.pretrained import Pretrained
from tailnas.genotype.primitives import EDGES, NODES, PRIMITIVES, edge_index

Edges = tuple[tuple[str, int], ...]

CELLS = ("normal", "reduce")
HEADS = ("instance_head", "class_head")
HAND_MADE = ("resnet32", "frozen")
"""Networks that no search has made, by name; `frozen` is a pretrained one."""
CONCAT = tuple(range(2, NODES + 2))
MOVEMENT_OF_NOISE = 0.02
"""Mean movement of the softmax weights below which a genotype is initialisation noise (method: section 3)."""


@dataclass(frozen=True)
class Genotype:
    """The cells of a derived network.

    Each cell is a tuple of 8 pairs (primitive, input): node i of the cell sums pairs 2i and 2i + 1; inputs 0 and 1 are
    the outputs of the two cells before, 2 and up the nodes of this cell. `concat` names the states that form the
    cell's output.

    A hand-made network has no cells: `Genotype(network="resnet32")`, in a file {"network": "resnet32"}. The network
    `frozen` is what `pretrained` says.
    """

    normal: Edges = ()
    reduce: Edges = ()
    instance_head: Edges | None = None
    class_head: Edges | None = None
    concat: tuple[int, ...] = CONCAT
    network: str | None = None
    pretrained: Pretrained | None = None

    def __post_init__(self) -> None:
        if (self.network == "frozen") != (self.pretrained is not None):
            raise ValueError(f"genotype.network: {self.network!r}; allowed: 'frozen' with `pretrained`, and no other")
        if self.network is not None:
            if self.network not in HAND_MADE:
                raise ValueError(f"genotype.network: {self.network!r}; allowed: {', '.join(HAND_MADE)}")
            if self.normal or self.reduce or self.instance_head or self.class_head:
                raise ValueError(f"genotype.network: {self.network!r} beside cells; allowed: without them")
            return
        for name in CELLS:
            object.__setattr__(self, name, checked_edges(name, getattr(self, name)))
        for name in HEADS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked_edges(name, getattr(self, name)))
        if not isinstance(self.concat, list | tuple) or list(self.concat) != list(CONCAT):
            raise ValueError(f"genotype.concat: {self.concat!r}; allowed: {list(CONCAT)}")
        object.__setattr__(self, "concat", CONCAT)

    def components(self) -> dict[str, Edges]:
        """The cells that this genotype has, by name."""
        cells = {name: getattr(self, name) for name in CELLS + HEADS}
        return {name: edges for name, edges in cells.items() if edges}

    def in_order(self) -> "Genotype":
        """The same cells, the two inputs of each node in ascending order, so that equal networks draw equal weights."""
        cells = {
            name: tuple(edge for node in range(NODES) for edge in sorted(edges[2 * node : 2 * node + 2], key=_source))
            for name, edges in self.components().items()
        }
        return Genotype(**{**vars(self), **cells})

    def to_line(self) -> str:
        """`to_json` on one line, for tables."""
        return json.dumps(json.loads(self.to_json()))

    def to_json(self) -> str:
        """One line per cell; heads that the genotype does not have are absent."""
        if self.network is not None:
            content = {"network": self.network}
            if self.pretrained is not None:
                return json.dumps({**content, "pretrained": self.pretrained.to_dict()}) + "\n"
            return json.dumps(content) + "\n"
        cells = {name: [list(pair) for pair in edges] for name, edges in self.components().items()}
        lines = [f'  "{name}": {json.dumps(value)}' for name, value in {**cells, "concat": list(self.concat)}.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @staticmethod
    def from_json(text: str) -> "Genotype":
        """The inverse of to_json. Raises ValueError with one line for anything that is no genotype."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"genotype: not JSON ({error}); allowed: a genotype.json as the derive stage writes it"
            ) from None
        return Genotype.from_dict(content)

    @staticmethod
    def from_dict(content: Any) -> "Genotype":
        """From what json.loads made of to_json's text. Raises ValueError with one line."""
        if not isinstance(content, dict):
            raise ValueError(f"genotype: {content!r}; allowed: an object with the keys {', '.join(CELLS)}, concat")
        if set(content) == {"network"}:
            return Genotype(network=content["network"])
        if set(content) == {"network", "pretrained"}:
            return Genotype(network=content["network"], pretrained=Pretrained.from_dict(content["pretrained"]))
        allowed = (*CELLS, *HEADS, "concat")
        if unknown := sorted(set(content) - set(allowed)):
            raise ValueError(f"genotype: unknown key {unknown[0]!r}; allowed: {', '.join(allowed)}")
        if missing := [name for name in (*CELLS, "concat") if name not in content]:
            raise ValueError(f"genotype.{missing[0]}: missing; allowed: an object with {', '.join((*CELLS, 'concat'))}")
        return Genotype(**content)


def _source(edge: tuple[str, int]) -> int:
    return edge[1]


def checked_edges(cell: str, edges: Any) -> Edges:
    """`edges` as tuples, or ValueError naming the cell, the pair and what is allowed."""
    if not isinstance(edges, list | tuple) or len(edges) != 2 * NODES:
        raise ValueError(f"genotype.{cell}: {edges!r}; allowed: a list of {2 * NODES} pairs (primitive, input)")
    checked: list[tuple[str, int]] = []
    for position, pair in enumerate(edges):
        node, key = position // 2, f"genotype.{cell}[{position}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{key}: {pair!r}; allowed: a pair (primitive, input)")
        primitive, source = pair
        if primitive not in PRIMITIVES[1:]:
            raise ValueError(f"{key}: primitive {primitive!r}; allowed: {', '.join(PRIMITIVES[1:])}")
        if type(source) is not int or not 0 <= source < node + 2:
            raise ValueError(f"{key}: input {source!r}; allowed: 0 to {node + 1}")
        if position % 2 and checked[-1][1] == source:
            raise ValueError(f"{key}: input {source} a second time; allowed: two different inputs per node")
        checked.append((primitive, source))
    return tuple(checked)


def derive_genotype(alphas: Mapping[str, ArrayLike]) -> Genotype:
    """The genotype that alphas (14, 8) of each component, tensors or arrays, stand for (DARTS, section 2.4).

    For each node the two incoming edges whose largest softmax weight over the primitives but `none` is largest, and on
    each that primitive, as the public code of DARTS has it; `none` counts in the softmax's denominator. The stronger
    edge comes first, ties go to the lowest index. Raises ValueError for a missing or unknown component, a wrong shape,
    or alphas that are not finite.
    """
    if missing := [name for name in CELLS if name not in alphas]:
        raise ValueError(f"alphas.{missing[0]}: missing; allowed: {', '.join(CELLS)} at least")
    if unknown := sorted(set(alphas) - {*CELLS, *HEADS}):
        raise ValueError(f"alphas: unknown component {unknown[0]!r}; allowed: {', '.join(CELLS + HEADS)}")
    return Genotype.from_dict({name: derive_cell(name, alphas[name]) for name in alphas} | {"concat": CONCAT})


def derive_cell(component: str, alphas: ArrayLike) -> Edges:
    """The 8 pairs of one cell from its alphas (14, 8)."""
    held: Any = alphas
    values = np.asarray(held.detach().cpu() if hasattr(held, "detach") else held, np.float64)
    if values.shape != (EDGES, len(PRIMITIVES)):
        raise ValueError(f"alphas.{component}: shape {values.shape}; allowed: {(EDGES, len(PRIMITIVES))}")
    if not np.isfinite(values).all():
        raise ValueError(f"alphas.{component}: numbers that are not finite; allowed: finite ones")
    weights = [mixture_weights(row) for row in values.tolist()]
    pairs: list[tuple[str, int]] = []
    for node in range(NODES):
        incoming = [weights[edge_index(node, source)] for source in range(node + 2)]
        strength = [max(edge) for edge in incoming]
        for source in sorted(range(node + 2), key=strength.__getitem__, reverse=True)[:2]:
            best = incoming[source].index(max(incoming[source]))
            pairs.append((PRIMITIVES[1:][best], source))
    return tuple(pairs)


def mixture_weights(alphas: list[float]) -> list[float]:
    """Softmax weights of all primitives but `none`. The sum is exact, so that equal edges tie in whatever order they
    stand.
    """
    largest = max(alphas)
    exponentials = [math.exp(alpha - largest) for alpha in alphas]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials[1:]]


DARTS_V1 = Genotype(
    normal=(
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("skip_connect", 0),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("skip_connect", 2),
    ),
    reduce=(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("avg_pool_3x3", 0),
    ),
)
"""The published first-order cell (DARTS, figure 4 and its public code)."""

DARTS_V2 = Genotype(
    normal=(
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1),
        ("skip_connect", 0),
        ("skip_connect", 0),
        ("dil_conv_3x3", 2),
    ),
    reduce=(
        ("max_pool_3x3", 0),
        ("max_pool_3x3", 1),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
        ("max_pool_3x3", 0),
        ("skip_connect", 2),
        ("skip_connect", 2),
        ("max_pool_3x3", 1),
    ),
)
"""The published second-order cell (DARTS, figure 4 and its public code)."""
