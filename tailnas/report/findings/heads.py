"""What head adaptation did, whichever way it went: run by run on the test images, and method by method over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailnas.report.findings.finding import Finding, p_text, percent, points
from tailnas.report.runs import MODELS, Factor, Results, Run
from tailnas.report.statistics import (
    LEVEL,
    Spread,
    holm,
    mcnemar_test,
    paired_interval,
    sign_flip_test,
    smallest_p_value,
    spread,
)
from tailnas.report.summary import seed_values

UNCHANGED_BELOW = 0.0005
"""A change that prints as 0.0 points."""

NAMED_RUNS = 6
"""Runs that a sentence names, at most."""

_NAMES = {"few": "Recall on few-shot classes", "many": "Recall on many-shot classes", "top1": "Top-1 accuracy"}


@dataclass(frozen=True)
class Change:
    """A method's metric by seed, before and after adaptation."""

    method: str
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def by_seed(self) -> tuple[float, ...]:
        return tuple(new - old for old, new in zip(self.before, self.after, strict=True))

    @property
    def mean(self) -> float:
        return float(np.mean(self.by_seed))


def adaptation_findings(results: Results, factor: Factor) -> list[Finding]:
    """Retrained against adapted at one imbalance factor."""
    head = f"{results.title(factor)}: "
    changes = {metric: changes_of(results, factor, metric) for metric in _NAMES}
    sentences = [_sentence(_NAMES[metric], found) for metric, found in changes.items() if found]
    findings = [Finding("note", head + " ".join(sentences))]
    findings.append(_over_images(head, results.of(factor=factor)))
    if not changes["few"]:
        text = "The runs of no method have few-shot groups in common, so there is no verdict over seeds."
        return [*findings, Finding("open", text)]
    return [*findings, _over_seeds(head, changes["few"], len(results.seeds))]


def changes_of(results: Results, factor: Factor, metric: str) -> list[Change]:
    """One for each method whose runs have the metric and shot groups that are comparable."""
    found = []
    for method in results.methods:
        before, after = (seed_values(results.of(method, factor), model, metric) for model in MODELS)
        if before is not None and after is not None:
            found.append(Change(method, tuple(before), tuple(after)))
    return found


def _sentence(name: str, changes: Sequence[Change]) -> str:
    """One method in full, several from the least change to the largest; methods are never averaged."""
    low, high = min(changes, key=lambda one: one.mean), max(changes, key=lambda one: one.mean)
    if len(changes) > 1:
        if max(abs(low.mean), abs(high.mean)) < UNCHANGED_BELOW:
            return f"{name} stayed where it was with every method."
        return f"{name} changed by {points(low.mean)} ({low.method}) to {points(high.mean)} points ({high.method})."
    before, after = float(np.mean(low.before)), float(np.mean(low.after))
    if abs(low.mean) < UNCHANGED_BELOW:
        return f"{name} stayed at {percent(after)}."
    verb = "rose" if low.mean > 0 else "fell"
    return f"{name} {verb} from {percent(before)} to {percent(after)} ({points(low.mean)} points)."


def _over_images(head: str, runs: Sequence[Run]) -> Finding:
    """McNemar's exact test on each run's few-shot test images, corrected by Holm over the runs."""
    few = [np.asarray(run.groups.few, dtype=int) for run in runs]
    gained, lost, images = (
        [int(counts[group].sum()) for counts, group in zip(column, few, strict=True)]
        for column in ([run.gained for run in runs], [run.lost for run in runs], [_images(run) for run in runs])
    )
    p_values = [mcnemar_test(*pair) for pair in zip(gained, lost, strict=True)]
    beyond = [index for index, p in enumerate(holm(p_values)) if p < LEVEL]
    several = len(runs) > 1
    test = "McNemar's exact test" + (f", Holm over {len(runs)} runs" if several else "")
    where = f"in each of {len(runs)} runs " if several else ""
    if not beyond:
        least, more, fewer = min(zip(p_values, gained, lost, strict=True))
        return Finding(
            "open",
            f"{head}{where}the change on few-shot classes is within what the choice of test images can make ({test}; "
            f"least p before correction {p_text(least)}, {more} images gained and {fewer} lost): it does not show "
            "whether adaptation helps them.",
        )

    def told(index: int) -> str:
        low, high = paired_interval(gained[index], lost[index], images[index])
        step = (gained[index] - lost[index]) / images[index]
        return f"{runs[index].name} ({points(step)} points of recall over its images, {points(low)} to {points(high)})"

    parts = []
    for verb, chosen in (
        ("gain", [index for index in beyond if gained[index] > lost[index]]),
        ("loss", [index for index in beyond if gained[index] < lost[index]]),
    ):
        if chosen:
            more = len(chosen) - NAMED_RUNS
            named = ", ".join(told(index) for index in chosen[:NAMED_RUNS]) + (f" and {more} more" if more > 0 else "")
            parts.append(
                f"the {verb} on few-shot classes is larger than the choice of test images can make in "
                f"{f'{len(chosen)} of {len(runs)} runs' if several else 'the one run'}: {named}"
            )
    before, after = ([float(runs[index].metrics[model]["top1"] or 0.0) for index in beyond] for model in MODELS)
    top1 = np.subtract(after, before).tolist()
    cost = f"Top-1 changed by {points(min(top1))} to {points(max(top1))} points there."
    return Finding("shown", f"{head}{'; '.join(parts)} ({test}; 95 % score intervals). {cost}")


def _images(run: Run) -> NDArray[np.int64]:
    """(K,) test images of each class."""
    images: NDArray[np.int64] = run.confusion["adapted"].sum(axis=1)
    return images


def _over_seeds(head: str, changes: Sequence[Change], seeds: int) -> Finding:
    """Each method's change by seed; shown where the exact sign-flip test says so, whatever an interval looks like."""
    if seeds == 1:
        text = "No interval: with one seed all runs share one split of the data, and another split may change this."
        return Finding("open", text)
    adjusted = holm([sign_flip_test(change.by_seed) for change in changes])
    told = "; ".join(
        f"{change.method} {_with_interval(spread(change.by_seed))}, p {p_text(p)}"
        for change, p in zip(changes, adjusted, strict=True)
    )
    corrected = "sign-flip test" + (f", Holm over {len(changes)} methods" if len(changes) > 1 else "")
    text = f"{head}over {seeds} seeds few-shot recall changed by (points, 95 % t interval, {corrected}) {told}."
    if any(p < LEVEL for p in adjusted):
        shown = [change.method for change, p in zip(changes, adjusted, strict=True) if p < LEVEL]
        return Finding("shown", f"{text} This shows a change for {', '.join(shown)}.")
    least = min(1.0, smallest_p_value(seeds) * len(changes))
    if least >= LEVEL:
        return Finding(
            "open",
            f"{text} {seeds} seeds are too few for this exact test to reach 5 %, whatever the data (its least p here "
            f"is {least:.3g}): read the intervals.",
        )
    return Finding("open", f"{text} None of them is shown to differ from no change.")


def _with_interval(found: Spread) -> str:
    if found.low is None or found.high is None:
        return f"{points(found.mean)} [alike in all seeds: no interval]"
    return f"{points(found.mean)} [{points(found.low)}, {points(found.high)}]"
