"""Figure of a run's alphas over its search. Made inside `svg.report_style`."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.special import softmax

from tailnas.derive.palette import COMPONENT_TITLES, PRIMITIVE_COLOURS, PRINTED, primitive_title
from tailnas.genotype.genotype import Edges
from tailnas.genotype.primitives import NODES, PRIMITIVES, edge_index
from tailnas.report.runs import Run
from tailnas.report.svg import PAGE_WIDTH

INPUT_NAMES = ("k−2", "k−1", *(str(node + 1) for node in range(NODES)))
EDGE_NAMES = tuple(f"{INPUT_NAMES[source]} → {node + 1}" for node in range(NODES) for source in range(node + 2))
UNIFORM = 1 / len(PRIMITIVES)

_DASHED = ("none", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_3x3")
_COLOURS = "RdBu_r"


def alphas_over_time(run: Run) -> Figure:
    """One row per component: mean softmax weight of each primitive, all edges' weights over epochs, the final ones.

    White is the uniform weight 1/8 that every search starts from. Final weights that the genotype keeps have a dot.
    """
    weights = {
        name: softmax(run.alphas[name].astype(np.float64), axis=-1) for name in COMPONENT_TITLES if name in run.alphas
    }
    norm = TwoSlopeNorm(UNIFORM, 0.0, max(2 * UNIFORM, *(float(values.max()) for values in weights.values())))
    figure = Figure(figsize=(PAGE_WIDTH, 1.0 + 2.0 * len(weights)))
    grid = figure.subplots(len(weights), 3, sharex="col", squeeze=False, width_ratios=(1.2, 1.2, 1))
    chosen = run.genotype.components()
    for row, (name, values) in zip(grid, weights.items(), strict=True):
        _means(row[0], values)
        row[0].set_title(COMPONENT_TITLES[name])
        _over_time(row[1], values, norm)
        _final(row[2], values[-1], chosen.get(name, ()), norm)
    grid[0, 1].set_title("All 14 edges of each primitive", fontweight="normal", fontsize=9)
    grid[0, 2].set_title("Final weights (dot: kept)", fontweight="normal", fontsize=9)
    for axes in grid[-1, :2]:
        axes.set_xlabel("search epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    bar = figure.colorbar(
        grid[0, 1].images[0], ax=grid[:, 2].tolist(), label="softmax weight", aspect=18 * len(weights)
    )
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    handles, titles = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside upper left", ncols=8, columnspacing=1.1, handlelength=1.6)
    return figure


def _means(axes: Axes, weights: NDArray[np.float64]) -> None:
    for index, primitive in enumerate(PRIMITIVES):
        axes.plot(
            weights[:, :, index].mean(axis=1),
            color=PRIMITIVE_COLOURS[primitive],
            linestyle=(0, (3, 1.5)) if primitive in _DASHED else "-",
            linewidth=1.6,
            label=primitive_title(primitive),
        )
    axes.set_ylabel("mean softmax weight")


def _over_time(axes: Axes, weights: NDArray[np.float64], norm: TwoSlopeNorm) -> None:
    epochs, edges, primitives = weights.shape
    axes.imshow(
        weights.transpose(2, 1, 0).reshape(-1, epochs),
        aspect="auto",
        cmap=_COLOURS,
        norm=norm,
        interpolation="none",
        extent=(-0.5, epochs - 0.5, primitives * edges, 0),
    )
    axes.grid(visible=False)
    axes.hlines(np.arange(1, primitives) * edges, -0.5, epochs - 0.5, color=PRINTED, linewidth=0.5)
    axes.set_yticks((np.arange(primitives) + 0.5) * edges, [primitive_title(name) for name in PRIMITIVES])
    axes.tick_params(axis="y", left=False, labelsize=7)


def _final(axes: Axes, weights: NDArray[np.float64], chosen: Edges | tuple[()], norm: TwoSlopeNorm) -> None:
    axes.imshow(weights, aspect="auto", cmap=_COLOURS, norm=norm, interpolation="none")
    axes.grid(visible=False)
    rows = [edge_index(position // 2, source) for position, (_, source) in enumerate(chosen)]
    columns = [PRIMITIVES.index(primitive) for primitive, _ in chosen]
    axes.plot(columns, rows, "o", color="#fefefe", markersize=4, markeredgecolor=PRINTED, markeredgewidth=0.9)
    axes.set_yticks(range(len(EDGE_NAMES)), EDGE_NAMES)
    axes.set_xticks(range(len(PRIMITIVES)), [primitive_title(name) for name in PRIMITIVES], rotation=90)
    axes.tick_params(left=False, bottom=False, labelsize=6.5)
