"""The calibration section: what metrics.json says of a run's probabilities, a figure and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pydantic import Field

from tailnas.evaluate.metrics import GROUPS
from tailnas.foundation.settings import Count, NonNegative, Positive, Section, Share
from tailnas.report.palette import ADAPTED, RETRAINED
from tailnas.report.svg import PAGE_WIDTH

if TYPE_CHECKING:
    from tailnas.report.runs import Run

TIMES = ("before", "after")
SHOWN_COVERAGES = (1.0, 0.9, 0.7, 0.5)
NAMED_AT_MOST = 12
ERRORS = (
    ("ECE", "ece"),
    ("ECE by chance", "ece_by_chance"),
    ("Adaptive ECE", "adaptive_ece"),
    ("Brier score", "brier"),
)
Values = Sequence[float | None]
_STYLES: Any = {
    "before": {"color": RETRAINED, "marker": "o", "label": "temperature 1"},
    "after": {"color": ADAPTED, "marker": "D", "label": "calibrated"},
}


class Errors(Section):
    """Calibration errors of some test images."""

    ece: Share
    adaptive_ece: Share
    brier: NonNegative


class Bin(Section):
    """Images of about one confidence."""

    images: Count
    confidence: Share
    accuracy: Share


class Measured(Errors):
    """All test images, those of each group, and of each confidence; ece_by_chance as the evaluation has it."""

    ece_by_chance: Share
    groups: dict[str, Errors | None]
    reliability: list[Bin]


class Kept(Section):
    """The error among the images of most confidence."""

    coverage: Share
    risk: Share


class OfClass(Section):
    """The sets of one class's test images."""

    images: int = Field(ge=0)
    coverage: Share | None
    size: NonNegative | None
    guaranteed: bool


class Sets(Section):
    """Sets of classes that lack the true one with probability `miss`."""

    miss: Share
    coverage: Share
    size: NonNegative
    classes: list[OfClass]


class UnderPrior(Section):
    """Accuracy where classes occur with some prior."""

    as_it_is: Share
    told: Share
    estimated: Share


class Calibration(Section):
    """What metrics.json holds under `calibration`; tailnas.evaluate.calibration tells what each means."""

    temperature: Positive
    before: Measured
    after: Measured
    risk_coverage: list[Kept]
    sets: Sets | None
    priors: dict[str, UnderPrior]


@dataclass(frozen=True)
class CalibrationRow:
    """A method's numbers, means over its runs, in fractions; sets of classes None without any.

    errors: title and before, after. kept: the error at each of SHOWN_COVERAGES. priors: name and the three accuracies.
    unsure: classes of any run without images enough for the guarantee.
    """

    method: str
    temperature: float
    errors: list[tuple[str, float | None, float | None]]
    kept: list[float]
    covered: float | None
    size: float | None
    miss: float | None
    unsure: str
    priors: list[tuple[str, UnderPrior]]


def calibration_rows(by_method: dict[str, list[Run]]) -> list[CalibrationRow]:
    """One row for each method."""
    return [_row(method, runs) for method, runs in by_method.items()]


def _row(method: str, runs: list[Run]) -> CalibrationRow:
    found = [run.calibration for run in runs]
    sets = [one.sets for one in found if one.sets is not None]
    unsure = dict.fromkeys(
        name
        for run in runs
        if run.calibration.sets is not None
        for name, own in zip(run.classes, run.calibration.sets.classes, strict=True)
        if not own.guaranteed
    )
    named = ", ".join(list(unsure)[:NAMED_AT_MOST])
    return CalibrationRow(
        method=method,
        temperature=float(np.mean([one.temperature for one in found])),
        errors=[
            *(
                _pair(title, *([getattr(getattr(one, time), key) for one in found] for time in TIMES))
                for title, key in ERRORS
            ),
            *(
                _pair(f"ECE, {name}-shot", *([_ece(getattr(one, time), name) for one in found] for time in TIMES))
                for name in GROUPS
            ),
        ],
        kept=[float(np.mean([risk_at(one, coverage) for one in found])) for coverage in SHOWN_COVERAGES],
        covered=_mean([one.coverage for one in sets]),
        size=_mean([one.size for one in sets]),
        miss=sets[0].miss if sets else None,
        unsure=f"{named} and {len(unsure) - NAMED_AT_MOST} more" if len(unsure) > NAMED_AT_MOST else named,
        priors=[
            (
                name,
                UnderPrior(
                    **{
                        how: float(np.mean([getattr(one.priors[name], how) for one in found]))
                        for how in UnderPrior.model_fields
                    }
                ),
            )
            for name in found[0].priors
        ],
    )


def _pair(title: str, before: Values, after: Values) -> tuple[str, float | None, float | None]:
    return title, _mean(before), _mean(after)


def risk_at(calibration: Calibration, coverage: float) -> float:
    """The error among the most confident images, the smallest part of them that is at least `coverage`."""
    return next(point.risk for point in calibration.risk_coverage if point.coverage >= coverage - 1e-9)


def _ece(measured: Measured, group: str) -> float | None:
    errors = measured.groups.get(group)
    return None if errors is None else errors.ece


def _mean(values: Values) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def reliability(by_method: dict[str, list[Run]]) -> Figure:
    """Accuracy against confidence of each method before and after, the bins of its runs pooled; larger with images."""
    columns = min(4, max(3, len(by_method)))
    rows = -(-len(by_method) // columns)
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 2.75 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (method, runs) in zip(grid.flat, by_method.items(), strict=False):
        axes.plot([0, 100], [0, 100], color="#c5ccd3", linewidth=1, zorder=1)
        for time in TIMES:
            bins = sorted(
                (one for run in runs for one in getattr(run.calibration, time).reliability),
                key=lambda one: one.confidence,
            )
            sizes = np.sqrt([one.images for one in bins])
            style = {key: value for key, value in _STYLES[time].items() if key != "label"}
            axes.scatter(
                [100 * one.confidence for one in bins],
                [100 * one.accuracy for one in bins],
                s=6 + 60 * sizes / sizes.max(),
                alpha=0.75,
                linewidths=0,
                zorder=2,
                **style,
            )
        axes.set_title(method)
    for index, axes in enumerate(grid.flat):
        if index >= len(by_method):
            axes.set_visible(False)
        elif index + columns >= len(by_method):
            axes.set_xlabel("confidence, %")
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel("test accuracy, %")
    handles = [Line2D([], [], linestyle="none", markersize=6, **_STYLES[time]) for time in TIMES]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handletextpad=0.2)
    return figure
