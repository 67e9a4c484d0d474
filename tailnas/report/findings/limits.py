"""What limits every figure of the report: controls, network sizes, groups, test images."""

from __future__ import annotations

from statistics import median

import numpy as np

from tailnas.data.repeated import Repeated
from tailnas.report.findings.finding import Finding, few_shot_images
from tailnas.report.runs import Factor, Results
from tailnas.report.statistics import accuracy_half_width

SIZE_TOLERANCE = 0.10
"""Parameters of compared networks should lie this close to their median (method 6)."""


def limit_findings(results: Results) -> list[Finding]:
    """One finding per limit that applies to the study."""
    findings = []
    if "random" not in results.methods:
        text = "`random` is not in the study: nothing here shows that searching beats drawing a genotype."
        findings.append(Finding("open", text))
    elif len(results.methods) > 1 and len(results.seeds) == 1:
        text = "Whether searching beats drawing a genotype at random is open: one seed cannot tell."
        findings.append(Finding("open", text))
    findings += [finding for factor in results.factors if (finding := _sizes(results, factor))]
    if any(run.groups.rule == "thirds" for run in results.runs):
        text = (
            "Where a group would be empty by the field's bounds (more than 100, 20 to 100, fewer than 20 training "
            "images), many, medium and few are thirds of the classes by size, comparable only with their own kind."
        )
        findings.append(Finding("note", text))
    findings.append(_test_images(results))
    text = (
        "Accuracy during the search is measured on the architecture half, which the alphas have seen; only test "
        "figures count. And this is one data set under one recipe and one budget: it says nothing about others."
    )
    return [*findings, Finding("note", text)]


def repeated_findings(repeated: Repeated) -> list[Finding]:
    """A warning where the same image stands in both parts or under two classes of the target."""
    if not repeated.across_parts and not repeated.across_classes:
        return []
    text = f"In the target {repeated}: what was trained on is part of what is measured, or has two right answers."
    return [Finding("warning", text)]


def _sizes(results: Results, factor: Factor) -> Finding | None:
    sizes = [run.parameters for run in results.of(factor=factor)]
    middle = median(sizes)
    outside = sum(abs(size - middle) > SIZE_TOLERANCE * middle for size in sizes)
    if not outside:
        return None
    return Finding(
        "open",
        f"{results.title(factor)}: the networks have {min(sizes):,} to {max(sizes):,} parameters, {outside} of "
        f"{len(sizes)} more than 10 % away from the median; part of a difference between them may be size.",
    )


def _test_images(results: Results) -> Finding:
    runs = results.runs
    images, few_images = min(run.test_images for run in runs), min(map(few_shot_images, runs))
    top1 = float(np.mean([run.metrics["adapted"]["top1"] for run in runs]))
    few = [run.metrics["adapted"]["few"] for run in runs if run.metrics["adapted"]["few"] is not None]
    half = 100 * accuracy_half_width(top1, images)
    text = f"Top-1 rests on {images:,} test images, whose choice alone leaves ±{half:.1f} points"
    if few:
        half = 100 * accuracy_half_width(float(np.mean(few)), few_images)
        text += f"; few-shot recall rests on {few_images:,} of them: ±{half:.1f}"
    return Finding("note", text + " (95 %, one trained network).")
