"""Cells drawn as wiring diagrams.

Every state of a cell is a horizontal wire: the two inputs at the top, then the nodes. A node's two operations hang from
the wires that they read; their results meet in the node, which sums them and where its own wire starts. All nodes end
in the concatenation at the right. No label can meet another one, whatever the genotype.
"""

from __future__ import annotations

from html import escape

from tailnas.derive.palette import COMPONENT_TITLES, INK, MUTED, PRIMITIVE_COLOURS, PRINTED, primitive_title
from tailnas.genotype.genotype import Edges, Genotype
from tailnas.genotype.primitives import NODES

CELL_WIDTH = 580
CELL_HEIGHT = 262
FONT = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"

_TOP, _ROW = 46, 38
_LEFT, _COLUMN = 50, 119
_TAP = 14
_BOX_WIDTH, _BOX_HEIGHT, _BOX_BELOW = 82, 18, 18
_SUM = _TAP + _BOX_WIDTH + 15
_CONCAT = _LEFT + (NODES - 1) * _COLUMN + _SUM + 22
_DARK_INK_ON = ("skip_connect", "sep_conv_3x3", "avg_pool_3x3", "dil_conv_3x3")


def genotype_svg(genotype: Genotype) -> str:
    """All cells of `genotype` as one SVG document (ASCII), two side by side; a pure function of the genotype."""
    cells = list(genotype.components().items())
    if genotype.network is not None:
        made = "made by hand" if genotype.pretrained is None else f"{genotype.pretrained.architecture}, pretrained"
        label = f"{genotype.network}: {made}, no searched cells"
        return _document(CELL_WIDTH, 40, genotype.network, f'<text x="8" y="24">{escape(label)}</text>')
    width, height = 2 * CELL_WIDTH, (len(cells) + 1) // 2 * CELL_HEIGHT
    body = [f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for index, (component, edges) in enumerate(cells):
        corner = f"{index % 2 * CELL_WIDTH} {index // 2 * CELL_HEIGHT}"
        body.append(f'<g transform="translate({corner})">\n{_cell(component, edges)}\n</g>')
    return _document(width, height, "Searched cells", "\n".join(body))


def cell_svg(component: str, edges: Edges) -> str:
    """One cell as an SVG document; `component` is normal, reduce, instance_head or class_head."""
    return _document(CELL_WIDTH, CELL_HEIGHT, COMPONENT_TITLES[component], _cell(component, edges))


def _document(width: int, height: int, title: str, body: str) -> str:
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{FONT}" font-size="12" fill="{INK}"><title>{escape(title)}</title>\n{body}\n</svg>\n'
    )
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _cell(component: str, edges: Edges) -> str:
    parts = [f'<text x="8" y="20" font-size="14" font-weight="600">{COMPONENT_TITLES[component]}</text>']
    if component == "reduce":
        parts.append(f'<text x="138" y="20" font-size="11" fill="{MUTED}">stride 2 where an input is read</text>')
    for state in range(2):
        end = max((_left(node) + _TAP // 2 for node in _readers(edges, state)), default=_LEFT + 8)
        parts.append(_text(8, _y(state) + 4, f'c<tspan dy="3" font-size="9">k−{2 - state}</tspan>', anchor="start"))
        parts.append(_path(f"M42 {_y(state)}H{end}", MUTED))
    parts += [_path(f"M{_left(node) + _SUM} {_y(node + 2)}H{_CONCAT}", MUTED) for node in range(NODES)]
    for halo in (True, False):
        parts += [
            _path(_wire(node, source), "#fff" if halo else INK, 4.5 if halo else 1.4)
            for node in range(NODES)
            for _, source in edges[2 * node : 2 * node + 2]
        ]
    for position, (primitive, source) in enumerate(edges):
        parts.append(_operation(primitive, position // 2, source))
    for node in range(NODES):
        x, y = _left(node) + _SUM, _y(node + 2)
        parts.append(f'<circle cx="{x}" cy="{y}" r="9" fill="#fff" stroke="{INK}" stroke-width="1.4"/>')
        parts.append(_text(x, y + 4, str(node + 1)))
    top, bottom = _y(2) - 12, _y(NODES + 1) + 12
    middle = (top + bottom) // 2
    parts.append(f'<rect x="{_CONCAT}" y="{top}" width="8" height="{bottom - top}" rx="3" fill="{INK}"/>')
    parts.append(_path(f"M{_CONCAT + 8} {middle}h8", INK))
    parts.append(_text(_CONCAT + 19, middle + 4, 'c<tspan dy="3" font-size="9">k</tspan>', anchor="start"))
    return "\n".join(parts)


def _left(node: int) -> int:
    return _LEFT + _COLUMN * node


def _y(state: int) -> int:
    return _TOP + _ROW * state


def _readers(edges: Edges, state: int) -> list[int]:
    return [position // 2 for position, (_, source) in enumerate(edges) if source == state]


def _wire(node: int, source: int) -> str:
    """From the state's wire, through the operation that hangs below it, down into the node's sum."""
    x, y, middle = _left(node), _y(source), _y(source) + _BOX_BELOW
    return f"M{x + _TAP // 2} {y}V{middle}H{x + _SUM - 6}q6 0 6 6V{_y(node + 2)}"


def _operation(primitive: str, node: int, source: int) -> str:
    x, y = _left(node), _y(source)
    ink = PRINTED if primitive in _DARK_INK_ON else "#fefefe"
    return (
        f'<circle cx="{x + _TAP // 2}" cy="{y}" r="2.6"/>'
        f'<rect x="{x + _TAP}" y="{y + _BOX_BELOW - _BOX_HEIGHT // 2}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" '
        f'rx="5" fill="{PRIMITIVE_COLOURS[primitive]}"/>'
        + _text(x + _TAP + _BOX_WIDTH // 2, y + _BOX_BELOW + 4, primitive_title(primitive), ink)
    )


def _path(course: str, colour: str, width: float = 1.4) -> str:
    return f'<path d="{course}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: int, y: int, content: str, colour: str = INK, anchor: str = "middle") -> str:
    size = 11 if anchor == "middle" else 12
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{content}</text>'
