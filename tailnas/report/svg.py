"""matplotlib figures as inline SVG whose bytes are a function of the data alone."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tailnas.derive.palette import INK, MUTED
from tailnas.report.palette import GRID

PAGE_WIDTH = 11.4
"""Width in inches of a figure that fills the report's column."""

RULE = "#b5bec7"
_THEMED = {
    INK: "ink",
    "#000000": "ink",
    MUTED: "muted",
    GRID: "grid",
    RULE: "rule",
    "#c5ccd3": "rule",
    "#ffffff": "paper",
    "#fff": "paper",
    "#7b3294": "violet",
    "#b35806": "brown",
    "#0072b2": "blue",
}
"""Colours that follow the page's light or dark theme, and its names for them."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.edgecolor": RULE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.use": True,
    "path.simplify": True,
}


@contextmanager
def report_style() -> Iterator[None]:
    """The report's looks, whatever the user's own matplotlib settings are; figures must be made and saved inside."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Class names may be in any script; the reader's browser has the glyphs that the font of the layout lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """`figure` as an SVG element to stand in an HTML page.

    `name` must differ between the figures of a page: it makes their ids differ. Text stays text, in the page's font.
    """
    stream = io.StringIO()
    figure.dpi = 72
    FigureCanvasSVG(figure)
    if layout := figure.get_layout_engine():  # saving would draw everything once more for it
        layout.execute(figure)
        figure.set_layout_engine("none")
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
    text = _compact(_own_ids(text, name))
    opening = f'<svg role="img" aria-label="{escape(description)}" stroke-linejoin="round" stroke-linecap="butt"'
    return themed(text.replace("<svg", opening, 1))


def themed(text: str) -> str:
    """SVG whose ink, lines and paper follow the page's theme; outside of a page they keep their colours."""
    pattern = r'(?<=[:"])(' + "|".join(_THEMED) + r')(?=[;"])'
    return re.sub(pattern, lambda colour: f"var(--{_THEMED[colour[1]]},{colour[1]})", text)


def _own_ids(text: str, name: str) -> str:
    """Only ids that something refers to, prefixed so that no two figures share one."""
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", text)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)


def _compact(text: str) -> str:
    """The same picture in fewer bytes: the page's font, hundredths of a point, no group that says nothing."""
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r' (?:d|x|y|transform|points|width|height)="[^"]*"', _shorter_numbers, text)
    text = re.sub(r' style="[^"]*"', lambda style: re.sub(r"([:;]) ", r"\1", style[0]), text)
    return "".join(_without_bare_groups(re.sub(r"\n\s*", "\n", text).strip()))


def _shorter_numbers(attribute: re.Match[str]) -> str:
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0])
    return re.sub(r"\s*([MLQCHVzZ])\s*", r"\1", text) if text.startswith(' d="') else text


def _without_bare_groups(text: str) -> Iterator[str]:
    """Pieces of `text` without the `<g>` elements that have no attributes; what they hold stays."""
    kept: list[bool] = []
    for piece in re.split(r"(<g\b[^>]*>\n?|</g>\n?)", text):
        tag = piece.rstrip()
        if tag == "</g>":
            if kept.pop():
                yield piece
        elif re.match(r"<g\b", tag) and not tag.endswith("/>"):
            kept.append(tag != "<g>")
            if kept[-1]:
                yield piece
        elif tag != "<g/>":
            yield piece
