"""Whether the searches searched: alphas that never moved, cells that collapsed."""

from __future__ import annotations

from collections.abc import Iterable

from tailnas.genotype.genotype import MOVEMENT_OF_NOISE
from tailnas.report.findings.finding import Finding, percent
from tailnas.report.runs import Run

COLLAPSED_FROM = 0.5
"""Share of skip connections among the chosen operations from which a genotype counts as collapsed (a reading)."""


def search_findings(runs: Iterable[Run]) -> list[Finding]:
    """Warnings about searches that stood still or collapsed, else the statement that none did."""
    searched = [run for run in runs if run.searched and {"softmax_movement", "skip_share"} <= set(run.search)]
    if not searched:
        return [Finding("note", "Nothing was searched: every genotype was drawn at random or taken as published.")]
    movement = {run.name: float(run.search["softmax_movement"].iloc[-1]) for run in searched}
    skips = {run.name: float(run.search["skip_share"].iloc[-1]) for run in searched}
    still = [f"{name} ({moved:.3f})" for name, moved in movement.items() if moved < MOVEMENT_OF_NOISE]
    collapsed = [f"{name} ({percent(share)})" for name, share in skips.items() if share >= COLLAPSED_FROM]
    findings = []
    if still:
        text = (
            f"The softmax weights moved by less than {MOVEMENT_OF_NOISE} on average in {', '.join(still)}. "
            "Such a genotype is initialisation noise, not the result of a search: raise the architecture learning rate "
            "or the steps."
        )
        findings.append(Finding("warning", text))
    if collapsed:
        text = f"Half or more of the chosen operations are skip connections in {', '.join(collapsed)}: collapsed cells."
        findings.append(Finding("warning", text))
    if findings:
        return findings
    text = (
        f"The softmax weights of every search moved, by {min(movement.values()):.3f} or more on average (under "
        f"{MOVEMENT_OF_NOISE} a genotype is noise), and no genotype is mostly skip connections."
    )
    return [Finding("shown", text)]
