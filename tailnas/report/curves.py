"""Figures of training over epochs: losses, schedules, collapse watch. Made inside `svg.report_style`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tailnas.derive.palette import COMPONENT_TITLES, INK, MUTED
from tailnas.genotype.genotype import MOVEMENT_OF_NOISE
from tailnas.genotype.primitives import PRIMITIVES
from tailnas.report.palette import COMPONENT_COLOURS, method_style
from tailnas.report.runs import Factor, Results, Run
from tailnas.report.svg import PAGE_WIDTH

_RATES = {
    "lr_backbone": ("backbone", "normal"),
    "lr_instance_head": ("instance head", "instance_head"),
    "lr_class_head": ("class head", "class_head"),
}
_LOSSES = {
    "loss": ("mixed", "normal"),
    "instance_loss": ("instance branch", "instance_head"),
    "class_loss": ("class branch", "class_head"),
}


def losses(results: Results, factor: Factor) -> Figure:
    """Loss (above) and accuracy (below) of every stage over its epochs, one colour per method."""
    stages: list[tuple[str, str, str, Callable[[Run], pd.DataFrame] | None]] = [
        ("Search", "balanced_accuracy", "on the architecture half: seen by the alphas", lambda run: run.search),
        ("Retrain", "accuracy", "on the training images", lambda run: run.retrain),
        ("Head adaptation", "balanced_accuracy", "on the training images", lambda run: run.adapt),
    ]
    if results.pretrain:
        stages.insert(0, ("Pretraining", "balanced_accuracy", "on held-out source images", None))
    figure = Figure(figsize=(PAGE_WIDTH, 4.9))
    grid = figure.subplots(2, len(stages), sharex="col", squeeze=False)
    for column, (title, accuracy, measured, history) in enumerate(stages):
        for row, (name, scale) in enumerate((("loss", 1.0), (accuracy, 100.0))):
            axes = grid[row, column]
            if history is None:
                draw_seeds(axes, [results.pretrain[seed].history for seed in results.seeds], name, scale, color=INK)
            else:
                for position, method in enumerate(results.methods):
                    shown = results.of(method, factor) if title != "Search" else results.searches_of(method, factor)
                    frames = [history(run) for run in shown]
                    draw_method(axes, frames, name, position, scale)
            if row == 0:
                _from_zero(axes)
            else:
                axes.set_ylim(-3, 103)
            axes.set_ylabel("loss" if row == 0 else f"{accuracy.replace('_', ' ')}, %")
        grid[0, column].set_title(title)
        grid[1, column].set_title(measured, fontsize=8, fontweight="normal", color=MUTED)
        _epochs(grid[1, column], "epoch")
    method_legend(figure, results.methods, results.methods)
    return figure


def schedules(results: Results, factor: Factor) -> Figure | None:
    """Mixing ratio, learning rates and branch losses of the first seed's searches; None without search.

    Learning rates of the weights, of each method's architecture components, then mixed, instance-branch and
    class-branch loss of the methods that have two branches.
    """
    searched = {m: run.search for m in results.methods if (run := results.of(m, factor)[0]).searched}
    if not searched:
        return None
    two_branch = {method: history for method, history in searched.items() if "instance_loss" in history}
    figure, panels = _panels(2 + len(searched) + len(two_branch), 2.5)
    mixing, weights, rates, branches = panels[0], panels[1], panels[2:], panels[2 + len(searched) :]
    for position, method in enumerate(results.methods):
        if method in searched:
            draw_method(mixing, [searched[method]], "mixing_ratio", position)
            draw_method(weights, [searched[method]], "lr_weights", position)
    if not mixing.lines:
        mixing.annotate("no two-branch method", (0.5, 0.5), xycoords="axes fraction", ha="center", color=MUTED)
    mixing.set_title("Mixing ratio")
    mixing.set_ylabel("share of the instance branch")
    mixing.set_ylim(-0.04, 1.04)
    weights.set_title("Weights")
    weights.set_ylabel("learning rate")
    for axes, (method, history) in zip(rates, searched.items(), strict=False):
        _components(axes, history, _RATES)
        axes.set_title(f"Alphas, {method}")
        axes.set_ylabel("learning rate")
    for axes, (method, history) in zip(branches, two_branch.items(), strict=True):
        _components(axes, history, _LOSSES)
        axes.set_title(f"Branches, {method}")
        axes.set_ylabel("loss")
    for axes in panels:
        _epochs(axes, "search epoch")
    for axes in panels[1:]:
        _from_zero(axes)
    method_legend(figure, list(searched), results.methods)
    return figure


def sweep(results: Results, factor: Factor) -> Figure | None:
    """Balanced accuracy of each two-branch search against the mixing ratio at inference; None without such a search."""
    methods = [method for method in results.methods if results.of(method, factor)[0].sweep is not None]
    if not methods:
        return None
    figure = Figure(figsize=(PAGE_WIDTH, 2.8))
    axes = figure.subplots()
    for method in methods:
        shown = [run.sweep for run in results.searches_of(method, factor) if run.sweep is not None]
        frames = [sweep.set_index("mixing_ratio") for sweep in shown]
        colour, dashes = method_style(results.methods.index(method))
        table = 100 * pd.concat([frame["balanced_accuracy"] for frame in frames], axis=1)
        if len(frames) > 1:
            axes.plot(table.index, table, color=colour, linestyle=dashes, linewidth=0.7, alpha=0.35)
        axes.plot(table.index, table.mean(axis=1), color=colour, linestyle=dashes, linewidth=1.7)
    axes.set_xlabel("mixing ratio at inference: 0 the class branch alone, 1 the instance branch alone")
    axes.set_ylabel("balanced accuracy, %")
    axes.set_title("Searched super-networks on the architecture half")
    axes.set_xlim(-0.02, 1.02)
    method_legend(figure, methods, results.methods)
    return figure


def _components(axes: Axes, history: pd.DataFrame, columns: dict[str, tuple[str, str]]) -> None:
    for name, (title, component) in columns.items():
        dashes = (0, (4, 3)) if component == "instance_head" else "-"
        draw_seeds(axes, [history], name, color=COMPONENT_COLOURS[component], label=title, linestyle=dashes)
    if axes.lines:
        axes.legend(loc="best", fontsize=7.5)


def collapse(results: Results, factor: Factor) -> Figure | None:
    """Skip share, movement of the softmax weights, and each component's entropy; None without search."""
    searched = [run for run in results.searches_of(factor=factor) if run.searched]
    if not searched:
        return None
    components = [name for name in COMPONENT_TITLES if any(f"entropy_{name}" in run.search for run in searched)]
    figure, panels = _panels(2 + len(components), 2.5)
    titles = [
        "Skip connections",
        "Movement of the softmax weights",
        *(f"Entropy, {COMPONENT_TITLES[c].lower()}" for c in components),
    ]
    columns = ["skip_share", "softmax_movement", *(f"entropy_{name}" for name in components)]
    for axes, title, column in zip(panels, titles, columns, strict=True):
        for position, method in enumerate(results.methods):
            frames = [run.search for run in searched if run.method == method]
            draw_method(axes, frames, column, position, 100 if column == "skip_share" else 1)
        axes.set_title(title)
        _epochs(axes, "search epoch")
        if column.startswith("entropy"):
            axes.set_ylabel("nats, mean of edges")
            axes.axhline(np.log(len(PRIMITIVES)), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.set_ylim(min(1.0, axes.get_ylim()[0]), np.log(len(PRIMITIVES)) * 1.06)
    panels[0].set_ylabel("share of chosen operations, %")
    panels[0].set_ylim(-3, 103)
    panels[1].set_ylabel("mean change since the start")
    panels[1].axhline(MOVEMENT_OF_NOISE, color="#b00020", linewidth=0.9, linestyle=(0, (4, 3)))
    panels[1].set_ylim(0, max(1.35 * MOVEMENT_OF_NOISE, panels[1].get_ylim()[1]))
    panels[1].annotate(
        "below: noise",
        (0.98, MOVEMENT_OF_NOISE),
        (0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=7.5,
        color="#b00020",
    )
    names = [method for method in results.methods if any(run.method == method for run in searched)]
    method_legend(figure, names, results.methods)
    return figure


def draw_method(axes: Axes, frames: Sequence[pd.DataFrame], column: str, position: int, scale: float = 1.0) -> None:
    """Draw `column` in the style of the method at `position` in the study."""
    colour, dashes = method_style(position)
    draw_seeds(axes, frames, column, scale, color=colour, linestyle=dashes)


def draw_seeds(axes: Axes, frames: Sequence[pd.DataFrame], column: str, scale: float = 1.0, **style: Any) -> None:
    """A line of the mean over `frames` (seeds) against epoch, and one thin line per frame where there are several.

    Infinite and missing values of a diverged run are gaps.
    """
    series = [
        scale * frame.set_index("epoch")[column].replace([np.inf, -np.inf], np.nan)
        for frame in frames
        if column in frame and frame["epoch"].max() > 0
    ]
    known = [values for values in series if values.notna().any()]
    if not known:
        return
    if len(known) > 1:
        thin: dict[str, Any] = {**style, "linewidth": 0.7, "alpha": 0.35, "label": None}
        for values in known:
            axes.plot(values.index, values, **thin)
    mean = pd.concat(known, axis=1).mean(axis=1).sort_index()
    axes.plot(mean.index, mean, linewidth=1.7, marker="o" if len(mean) == 1 else "", markersize=4, **style)


def method_legend(figure: Figure, methods: Sequence[str], study: Sequence[str]) -> None:
    """One legend above the panels, of those `methods` of the study that they show."""
    styles = [method_style(study.index(method)) for method in methods]
    axes = figure.axes[0]
    handles = [axes.plot([], [], color=colour, linestyle=dashes, linewidth=1.7)[0] for colour, dashes in styles]
    figure.legend(handles, methods, loc="outside upper left", ncols=min(8, len(methods)))


def _epochs(axes: Axes, title: str) -> None:
    axes.set_xlabel(title)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if axes.dataLim.width == 0:
        axes.set_xticks([axes.dataLim.x0])


def _from_zero(axes: Axes) -> None:
    """Start the y axis at zero, with some room above the data."""
    if axes.lines:
        axes.set_ylim(0, max(1.06 * axes.dataLim.y1, 1e-6))


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """`count` panels in rows of three, or of four where that leaves fewer gaps."""
    columns = 4 if count == 4 or count > 6 else 3
    rows = -(-count // columns)
    figure = Figure(figsize=(PAGE_WIDTH, 0.4 + height * rows))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]
