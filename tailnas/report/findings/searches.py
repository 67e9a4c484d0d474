"""Whether the searches searched: what they started from, whether alphas moved, what cells became, what it cost."""

from __future__ import annotations

from collections.abc import Iterator

from tailnas.genotype.genotype import MOVEMENT_OF_NOISE
from tailnas.report.findings.finding import Finding, percent
from tailnas.report.runs import Results

COLLAPSED_FROM = 0.5
"""Share of skip connections among the chosen operations from which a genotype counts as collapsed (a reading)."""


def search_findings(results: Results) -> list[Finding]:
    """Warnings of searches that started from nothing, stood still or collapsed, else that none did; their steps."""
    return [*_start(results), *_end(results), *_steps(results)]


def _start(results: Results) -> Iterator[Finding]:
    """Super-networks that know no more than guessing does, although searches start from them."""
    for paths, trained in (("mixture", "super-network"), ("single", "single-path super-network")):
        methods = dict.fromkeys(run.method for run in results.searches if run.cost.pretrained == paths)
        known = []
        for seed, pretraining in results.pretrain.items():
            history = pretraining.history if paths == "mixture" else pretraining.single
            if history is not None and history["balanced_accuracy"].iloc[-1] <= history["guessing"].iloc[-1]:
                accuracy, chance = (
                    percent(float(history[name].iloc[-1])) for name in ("balanced_accuracy", "guessing")
                )
                known.append(f"{accuracy} in seed {seed} (guessing reaches {chance})")
        if methods and known:
            yield Finding(
                "warning",
                f"The {trained} that {', '.join(methods)} start from knows no more of the source's held-out images "
                f"than guessing does: {', '.join(known)}. These searches are pretrained in name alone: raise "
                "pretrain's epochs or learning rate.",
            )


def _end(results: Results) -> list[Finding]:
    searched = [
        run for run in results.searches if run.searched and {"softmax_movement", "skip_share"} <= set(run.search)
    ]
    if not searched:
        return [Finding("note", "Nothing was searched: every genotype was drawn at random or taken as published.")]
    movement = {run.search_name: float(run.search["softmax_movement"].iloc[-1]) for run in searched}
    skips = {run.search_name: float(run.search["skip_share"].iloc[-1]) for run in searched}
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


def _steps(results: Results) -> Iterator[Finding]:
    """Optimiser steps of the searches and images that pass; a two-branch search sees two batches in each step."""
    costs = {run.method: run.cost for run in results.searches if run.factor == results.factors[0] and run.cost.images}
    if not costs:
        return
    told = ", ".join(
        f"{method} {cost.optimiser_steps:,} steps and {cost.images:,} images" for method, cost in costs.items()
    )
    text = f"What the searches were given at {results.title(results.factors[0]).lower()}: {told}."
    two = [method for method in costs if any(run.sweep is not None for run in results.searches_of(method))]
    one = [method for method in costs if method not in two]
    if two and one:
        text += f" In each step {', '.join(two)} sees two batches, one for each branch: twice the images of one branch."
    yield Finding("note", text)
