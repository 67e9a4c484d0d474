"""Figures of the results: shot groups, recall against class size, confusion. Made inside `svg.report_style`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from tailnas.derive.palette import INK, MUTED, PRINTED
from tailnas.evaluate.intervals import wilson
from tailnas.evaluate.metrics import FEW_BELOW, GROUPS, MANY_ABOVE
from tailnas.report.palette import ADAPTED, GRID, RETRAINED
from tailnas.report.runs import MODELS, Run
from tailnas.report.summary import METRIC_TITLES, mean_metric
from tailnas.report.svg import PAGE_WIDTH

TITLES = {"retrained": "retrained", "adapted": "head adapted"}
_STYLES: Any = {
    "retrained": {"color": RETRAINED, "marker": "o"},
    "adapted": {"color": ADAPTED, "marker": "D"},
}
EACH_CLASS_UP_TO = 25
"""Classes up to which the line of a recall panel joins them one by one and a confusion matrix names them."""

BINS = 12
"""Points of the recall line where there are more classes: means of equally many classes by size."""

ANNOTATE_UP_TO = 12
"""Classes up to which a confusion matrix has its percentages written in."""


def label(name: str, length: int = 14) -> str:
    """A class name for a figure: printable, and not longer than `length` characters."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in name)
    return printable if len(printable) <= length else printable[: length - 1] + "…"


def adaptation_effect(by_method: dict[str, list[Run]], leading: str) -> Figure:
    """Retrained against adapted for each method: an accuracy (`leading`, top1 or balanced_accuracy) and recall of the
    shot groups, one small dot per seed.
    """
    metrics = (leading, *GROUPS)
    methods = list(by_method)
    figure = Figure(figsize=(PAGE_WIDTH, 1.25 + 0.42 * len(methods)))
    panels = figure.subplots(1, len(metrics), sharey=True)
    for axes, metric in zip(panels, metrics, strict=True):
        for row, runs in enumerate(by_method.values()):
            _dumbbell(axes, row, runs, metric)
        axes.set_title(METRIC_TITLES[metric])
        axes.set_xlabel("accuracy, %" if metric == leading else "recall, %")
        axes.set_xlim(-3, 103)
        axes.set_ylim(len(methods) - 0.4, -0.75)
        axes.set_yticks(range(len(methods)), methods)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
    handles = [panels[0].plot([], [], linestyle="none", markersize=6, **_STYLES[model])[0] for model in MODELS]
    figure.legend(handles, TITLES.values(), loc="outside upper left", ncols=2, handletextpad=0.2)
    return figure


def _dumbbell(axes: Axes, row: int, runs: list[Run], metric: str) -> None:
    means = [mean_metric(runs, model, metric) for model in MODELS]
    if means[0] is None or means[1] is None:
        axes.annotate("not comparable", (50, row), ha="center", va="center", color=MUTED, fontsize=8)
        return
    before, after = 100 * means[0], 100 * means[1]
    axes.plot([before, after], [row, row], color="#c5ccd3", linewidth=2.2, zorder=2, solid_capstyle="round")
    for model, value in zip(MODELS, (before, after), strict=True):
        style = {**_STYLES[model], "linestyle": "none"}
        if len(runs) > 1:
            seeds = [100 * (run.metrics[model][metric] or 0.0) for run in runs]
            axes.plot(seeds, [row] * len(seeds), markersize=2.8, alpha=0.45, **style)
        axes.plot([value], [row], markersize=6.5, zorder=3, **style)
    middle = min(max((before + after) / 2, 22), 78)
    text = f"{before:.1f} → {after:.1f}"
    axes.annotate(text, (middle, row), (0, 7), textcoords="offset points", ha="center", fontsize=7.5, color=MUTED)


def recall_by_size(by_method: dict[str, list[Run]]) -> Figure:
    """Recall against training images, largest class left: one marker per class and seed, lines of their means.

    Bars of a single run are Wilson's 95 % intervals by the test images.
    """
    columns = min(4, max(3, len(by_method)))
    rows = -(-len(by_method) // columns)
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 2.75 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (method, runs) in zip(grid.flat, by_method.items(), strict=False):
        _recall_panel(axes, runs)
        axes.set_title(method, pad=16)
    for index, axes in enumerate(grid.flat):
        if index >= len(by_method):
            axes.set_visible(False)
        elif index + columns >= len(by_method):
            axes.set_xlabel("training images of the class (log scale)")
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel("test recall, %")
    handles, titles = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside upper left", ncols=2)
    return figure


def _recall_panel(axes: Axes, runs: list[Run]) -> None:
    order = [size_order(run.counts) for run in runs]
    sizes = np.mean([np.asarray(run.counts)[ranks] for run, ranks in zip(runs, order, strict=True)], axis=0)
    many_classes = len(sizes) > EACH_CLASS_UP_TO
    for model in MODELS:
        recall = 100 * np.stack([run.recall[model][ranks] for run, ranks in zip(runs, order, strict=True)])
        known = ~np.isnan(recall).all(axis=0)
        if len(runs) > 1 or many_classes:
            positions = np.broadcast_to(sizes, recall.shape)
            axes.plot(positions.ravel(), recall.ravel(), linestyle="none", markersize=2.4, alpha=0.3, **_STYLES[model])
        x, y = sizes[known], np.nanmean(recall[:, known], axis=0)
        if len(runs) == 1 and not many_classes:
            _intervals(axes, runs[0], model, order[0][known], x)
        if many_classes:
            x, y = (np.array([part.mean() for part in np.array_split(values, BINS)]) for values in (x, y))
        axes.plot(x, y, markersize=4.5, linewidth=1.6, label=TITLES[model], **_STYLES[model])
    axes.set_xscale("log")
    axes.set_xlim(sizes.max() * 1.18, max(sizes.min(), 0.5) / 1.18)
    axes.set_ylim(-4, 104)
    ticks = spaced(sizes, max(1.32, (sizes.max() / max(sizes.min(), 0.5)) ** 0.125))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}" for tick in ticks])
    axes.grid(axis="x", visible=False)
    _mark_groups(axes, runs[0])


def _intervals(axes: Axes, run: Run, model: str, classes: NDArray[np.int64], sizes: NDArray[np.float64]) -> None:
    """Wilson's interval of each class's recall, beside its marker."""
    low, high = 100 * wilson(np.diag(run.confusion[model])[classes], run.tested[classes])
    beside = sizes * (1.025 if model == MODELS[0] else 1 / 1.025)
    axes.vlines(beside, low, high, color=_STYLES[model]["color"], linewidth=1.0, alpha=0.55, zorder=1)


def _mark_groups(axes: Axes, run: Run) -> None:
    """Borders and names of the shot groups above the panel."""
    sizes = [[run.counts[index] for index in getattr(run.groups, group)] for group in GROUPS]
    left, right = axes.get_xlim()
    inner = [FEW_BELOW, MANY_ABOVE] if run.groups.rule == "counts" else []
    if not inner and all(sizes):
        inner = [(min(sizes[1]) * max(sizes[2])) ** 0.5, (min(sizes[0]) * max(sizes[1])) ** 0.5]
    if not inner:
        return
    borders = [left, inner[1], inner[0], right]
    for border in inner:
        axes.axvline(border, color="#9aa5b1", linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
    for group, start, end in zip(GROUPS, borders, borders[1:], strict=False):
        axes.annotate(
            group,
            ((start * end) ** 0.5, 1.0),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=MUTED,
        )


def size_order(counts: Sequence[int]) -> NDArray[np.int64]:
    """Class indices from the most to the least frequent, ties by index."""
    return np.argsort(-np.asarray(counts), kind="stable")


def spaced(values: NDArray[np.float64], ratio: float) -> list[float]:
    """Those of `values` that are at least a factor `ratio` apart, from the largest down; the smallest is kept."""
    kept: list[float] = []
    for value in sorted(set(values.tolist()), reverse=True):
        if not kept or kept[-1] >= value * ratio:
            kept.append(value)
    smallest = max(float(values.min()), 0.5)
    if kept[-1] > smallest:
        kept = [*[value for value in kept if value >= smallest * ratio], smallest]
    return kept


def confusion_matrices(by_method: dict[str, list[Run]]) -> Figure:
    """Share of each true class predicted as each class, classes by size, seeds pooled; adapted below retrained."""
    figure = Figure(figsize=(PAGE_WIDTH, PAGE_WIDTH / max(3, len(by_method)) * 1.9))
    grid = figure.subplots(2, max(3, len(by_method)), squeeze=False)
    for column, (method, runs) in enumerate(by_method.items()):
        for row, model in enumerate(MODELS):
            axes = grid[row, column]
            _matrix(axes, _pooled(runs, model))
            _name_classes(axes, runs)
            axes.set_title(f"{method}, {TITLES[model]}", fontsize=9)
            if column == 0:
                axes.set_ylabel("true class, by training images")
            if row == 1:
                axes.set_xlabel("predicted class")
    for axes in grid[:, len(by_method) :].flat:
        axes.set_visible(False)
    return figure


def _pooled(runs: list[Run], model: str) -> NDArray[np.float64]:
    counts = np.zeros_like(runs[0].confusion[model])
    for run in runs:
        order = size_order(run.counts)
        counts += run.confusion[model][np.ix_(order, order)]
    images = counts.sum(axis=1, keepdims=True)
    return 100 * np.divide(counts, images, out=np.zeros(counts.shape), where=images > 0)


def _matrix(axes: Axes, percent: NDArray[np.float64]) -> None:
    classes = len(percent)
    # Of many classes each takes a small share of the errors: the square root keeps them visible.
    axes.imshow(
        percent, cmap="Blues", norm=PowerNorm(1 if classes <= ANNOTATE_UP_TO else 0.5, 0, 100), interpolation="none"
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(classes > ANNOTATE_UP_TO)
    if classes > ANNOTATE_UP_TO:
        return
    axes.hlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color=GRID, linewidth=0.5)
    axes.vlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, color=GRID, linewidth=0.5)
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            colour = "#fefefe" if value > 55 else PRINTED
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)


def _name_classes(axes: Axes, runs: list[Run]) -> None:
    """Names and sizes where all seeds order the classes alike and there is room for names, else sizes alone."""
    orders = [size_order(run.counts) for run in runs]
    names = [label(runs[0].classes[index], 10) for index in orders[0]]
    sizes = [str(runs[0].counts[index]) for index in orders[0]]
    named = len(names) <= EACH_CLASS_UP_TO and all((order == orders[0]).all() for order in orders)
    rows = [f"{name} ({size})" for name, size in zip(names, sizes, strict=True)] if named else sizes
    columns = names if named else sizes
    step = 1 if len(names) <= EACH_CLASS_UP_TO else -(-len(names) // 10)
    ticks = range(0, len(names), step)
    axes.set_yticks(ticks, [rows[tick] for tick in ticks])
    axes.set_xticks(ticks, [columns[tick] for tick in ticks])
    axes.tick_params(left=step > 1, bottom=step > 1, labelsize=7)
    if max(len(columns[tick]) for tick in ticks) > 3:
        axes.tick_params(axis="x", rotation=90)
