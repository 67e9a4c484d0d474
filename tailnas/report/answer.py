"""The answer of a study in a sentence or two: which method, by how much, how sure, for which classes."""

from __future__ import annotations

import numpy as np

from tailnas.evaluate.metrics import GROUPS
from tailnas.report.findings.finding import p_text, percent, points
from tailnas.report.runs import MODELS, Factor, Results, Run
from tailnas.report.statistics import (
    LEVEL,
    Spread,
    holm,
    mcnemar_test,
    sign_flip_test,
    smallest_p_value,
    spread,
)
from tailnas.report.summary import mean_metric, seed_values

MODEL = "adapted"
MEASURE = "balanced_accuracy"
REFERENCES = ("random", "darts")
"""What a method is held against: the first of these in the study, else the second best."""


def answers(results: Results) -> list[str]:
    """One paragraph for each imbalance factor."""
    several = len(results.factors) > 1
    return [
        (f"{results.title(factor)}: " if several else "") + " ".join(_sentences(results, factor))
        for factor in results.factors
    ]


def _sentences(results: Results, factor: Factor) -> list[str]:
    best = max(results.methods, key=lambda method: mean_metric(results.of(method, factor), MODEL, MEASURE) or 0.0)
    if len(results.methods) == 1:
        first = f"{best} was run alone, so there is nothing to call it better than: {_reached(results, factor, best)}."
    elif len(results.seeds) == 1:
        worst = min(results.methods, key=lambda name: mean_metric(results.of(name, factor), MODEL, MEASURE) or 0.0)
        first = (
            f"No method can be called better than another: there is one seed. After head adaptation "
            f"{_reached(results, factor, best)}, the most, and {_reached(results, factor, worst)}, the least."
        )
    else:
        first = _compared(results, factor, best)
    return [first, _adaptation(results.of(factor=factor)), _weakest(results.of(best, factor))]


def _reached(results: Results, factor: Factor, method: str) -> str:
    reached = mean_metric(results.of(method, factor), MODEL, MEASURE) or 0.0
    return f"{method} has {percent(reached)} balanced accuracy"


def _compared(results: Results, factor: Factor, best: str) -> str:
    """The best method against the reference, corrected for its having been picked as the best of several."""
    others = [method for method in results.methods if method != best]
    references = [name for name in REFERENCES if name in results.methods]
    second = max(others, key=lambda method: mean_metric(results.of(method, factor), MODEL, MEASURE) or 0.0)
    reference = references[0] if references else second
    if best == reference:
        found = _difference(results, factor, reference, second, MEASURE)
        return (
            f"No method does better than {reference} in this study: {_reached(results, factor, reference)} after head "
            f"adaptation, and the next, {second}, {_points_of(found, '')} less."
        )
    family = [method for method in results.methods if method != reference]
    differences = [_pairs(results, factor, method, reference, MEASURE) for method in family]
    adjusted = dict(zip(family, holm([sign_flip_test(tuple(own)) for own in differences]), strict=True))[best]
    found = spread(_pairs(results, factor, best, reference, MEASURE))
    where = [
        f"{points(part.mean)}{_ends(part)} on {group}-shot classes"
        for group in reversed(GROUPS)
        if (part := _difference(results, factor, best, reference, group))
    ]
    seeds, corrected = len(results.seeds), f", Holm over {len(family)} methods" if len(family) > 1 else ""
    verdict = f"{best} is better than {reference}" if adjusted < LEVEL and found.mean > 0 else ""
    verdict = verdict or f"No method is shown to be better than {reference}; the best, {best}, is ahead"
    least = min(1.0, smallest_p_value(seeds) * len(family))
    unable = f"; {seeds} seeds cannot reach 5 % with it" if least >= LEVEL else ""
    return (
        f"{verdict} by {_points_of(found, ' points of balanced accuracy')} after head adaptation "
        f"({seeds} seeds, sign-flip p {p_text(adjusted)}{corrected}{unable}): {', '.join(where)}."
    )


def _pairs(results: Results, factor: Factor, method: str, reference: str, metric: str) -> list[float]:
    own, other = (seed_values(results.of(name, factor), MODEL, metric) for name in (method, reference))
    return [] if own is None or other is None else np.subtract(own, other).tolist()


def _difference(results: Results, factor: Factor, method: str, reference: str, metric: str) -> Spread | None:
    pairs = _pairs(results, factor, method, reference, metric)
    return spread(pairs) if pairs else None


def _ends(found: Spread) -> str:
    return "" if found.low is None or found.high is None else f" [{points(found.low)}, {points(found.high)}]"


def _points_of(found: Spread | None, unit: str) -> str:
    if found is None:
        return "an unknown number of points"
    interval = f" (95 % interval{_ends(found)})" if _ends(found) else ""
    return f"{points(found.mean).removeprefix('+')}{unit or ' points'}{interval}"


def _adaptation(runs: list[Run]) -> str:
    """How far the new head moved few-shot recall, and in how many runs that is more than chance over images."""
    steps, p_values = [], []
    for run in runs:
        before, after = (run.metrics[model]["few"] for model in MODELS)
        if before is not None and after is not None:
            few = list(run.groups.few)
            steps.append(after - before)
            p_values.append(mcnemar_test(int(run.gained[few].sum()), int(run.lost[few].sum())))
    if not steps:
        return "No few-shot class has test images."
    shown = sum(p < LEVEL for p in holm(p_values))
    span = points(steps[0]) if len(steps) == 1 else f"{points(min(steps))} to {points(max(steps))}"
    return (
        f"Adapting the head changed few-shot recall by {span} points, more than the choice of test images explains in "
        f"{shown} of {len(runs)} runs (McNemar, Holm)."
    )


def _weakest(runs: list[Run]) -> str:
    """The class that the best method's first run recognises least, with its interval."""
    run = runs[0]
    recall = np.where(run.tested > 0, run.recall[MODEL], np.inf)
    index = int(recall.argmin())
    low, high = run.recall_intervals(MODEL)[:, index]
    return (
        f"The class recognised least is {run.classes[index]} with its {run.counts[index]} training images: {run.name} "
        f"finds {percent(float(recall[index]))} of its test images [{100 * low:.0f}, {100 * high:.0f}]."
    )
