"""Which methods can be told apart, and how small a difference could have been."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2
from statistics import median

import numpy as np

from tailnas.report.comparisons import BASELINES, Comparison, compare_methods
from tailnas.report.findings.finding import Finding, p_text, percent, points
from tailnas.report.runs import Factor, Results
from tailnas.report.statistics import LEVEL, accuracy_half_width, pairs_needed, smallest_p_value

_SHORT = {"top1": "top-1", "few": "few-shot recall"}


def method_findings(results: Results, factor: Factor) -> list[Finding]:
    """What can be said between methods at one imbalance factor."""
    head = f"{results.title(factor)}: "
    if len(results.methods) == 1:
        return [Finding("open", head + "one method was run, so there is nothing to compare it with.")]
    if len(results.seeds) == 1:
        return [Finding("open", head + _one_seed(results, factor))]
    rows = compare_methods(results, factor)
    if not rows:
        return [Finding("open", head + f"neither {' nor '.join(BASELINES)} is in the study to compare with.")]
    findings = [Finding("shown" if any(row.told_apart for row in rows) else "open", head + _told_apart(rows))]
    more = (_resolution(head, rows, len(results.seeds)), _least_p(rows, len(results.seeds)))
    return [*findings, *filter(None, more)]


def _one_seed(results: Results, factor: Factor) -> str:
    runs = results.of(factor=factor)
    top1 = {run.method: run.metrics["adapted"]["top1"] or 0.0 for run in runs}
    low, high = min(top1, key=lambda method: top1[method]), max(top1, key=lambda method: top1[method])
    noise = accuracy_half_width(float(np.mean(list(top1.values()))), min(run.test_images for run in runs))
    return (
        "no method can be ranked. There is one seed, so there is no interval and no test. "
        f"Top-1 after adaptation spans {percent(top1[low])} ({low}) to {percent(top1[high])} ({high}), "
        f"{100 * (top1[high] - top1[low]):.1f} points; the test images alone leave each of these figures uncertain by "
        f"about ±{100 * noise:.1f} points, and what another seed would change comes on top and was not measured. "
        "More entries in study.seeds measure it."
    )


def _told_apart(rows: Sequence[Comparison]) -> str:
    apart = [row for row in rows if row.told_apart]
    total = f"{len(rows)} comparisons (top-1 and few-shot recall, retrained and adapted, against the baselines)"
    if not apart:
        return f"none of {total} shows a difference that survives the sign-flip test with Holm's correction at 5 %."
    named = "; ".join(
        f"{row.method} against {row.baseline}, {_SHORT[row.metric]} {row.model} "
        f"({points(row.difference.mean)} points, Holm p {p_text(row.adjusted_p or 0.0)})"
        for row in apart
    )
    return (
        f"{len(apart)} of {total} show a difference that survives the sign-flip test with Holm's correction at 5 %: "
        f"{named}. The others stay undecided."
    )


def _resolution(head: str, rows: Sequence[Comparison], seeds: int) -> Finding | None:
    top1 = [row for row in rows if row.metric == "top1"]
    detectable = sorted(100 * row.detectable for row in top1 if row.detectable is not None)
    if not detectable:
        return None
    sd = median(row.difference.sd for row in top1 if row.difference.sd is not None)
    return Finding(
        "note",
        f"{head}with {seeds} seeds a true top-1 difference of about {median(detectable):.1f} points is found four "
        f"times out of five (median over comparisons; {detectable[0]:.1f} to {detectable[-1]:.1f}). "
        "Smaller ones mostly go unnoticed, so a missing difference is no proof of equality. "
        f"Finding 1 point takes about {pairs_needed(0.01, sd)} seeds.",
    )


def _least_p(rows: Sequence[Comparison], seeds: int) -> Finding | None:
    keys = [(row.metric, row.model, row.baseline) for row in rows]
    family = max(keys.count(key) for key in keys)
    least = smallest_p_value(seeds)
    if least * family < LEVEL:
        return None
    needed = ceil(log2(family / LEVEL)) + 1
    plural = "s" if family > 1 else ""
    return Finding(
        "open",
        f"{seeds} seeds are too few for the exact test to reach 5 %, whatever the data: its least p is {least:.3g}, "
        f"{min(1.0, least * family):.3g} after Holm over {family} method{plural}. {needed} seeds are enough; "
        "until then read the intervals.",
    )
