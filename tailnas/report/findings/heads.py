"""What head adaptation did, whichever way it went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailnas.report.findings.finding import Finding, few_shot_images, p_text, percent, points
from tailnas.report.runs import MODELS, Results, Run
from tailnas.report.statistics import sign_flip_test, spread
from tailnas.report.summary import metric_values

UNCHANGED_BELOW = 0.0005
"""A change that prints as 0.0 points."""

_NAMES = {"few": "Recall on few-shot classes", "many": "Recall on many-shot classes", "top1": "Top-1 accuracy"}


@dataclass(frozen=True)
class Change:
    """A metric's means before and after adaptation, and in how many runs it rose."""

    before: float
    after: float
    rose: int
    runs: int

    @property
    def mean(self) -> float:
        return self.after - self.before


def adaptation_findings(results: Results, factor: int | float) -> list[Finding]:
    """Retrained against adapted at one imbalance factor."""
    runs = results.of(factor=factor)
    changes = {metric: change_of(runs, metric) for metric in _NAMES}
    sentences = [_sentence(_NAMES[metric], change) for metric, change in changes.items() if change]
    which = f"mean of {len(runs)} runs" if len(runs) > 1 else "one run"
    findings = [Finding("note", f"Imbalance factor {factor}, {which}: " + " ".join(sentences))]
    few, top1 = changes["few"], changes["top1"]
    if few is None or top1 is None:
        return [
            *findings,
            Finding("open", "These runs have no few-shot groups in common, so there is no verdict on them."),
        ]
    findings.append(_verdict(few, top1, _noise(few, min(map(few_shot_images, runs)))))
    findings.append(_over_seeds(results, factor))
    return findings


def change_of(runs: list[Run], metric: str) -> Change | None:
    """The change over `runs`; None where the metric is missing or its shot groups are not comparable."""
    before, after = (metric_values(runs, model, metric) for model in MODELS)
    if before is None or after is None:
        return None
    rose = sum(new > old for old, new in zip(before, after, strict=True))
    return Change(float(np.mean(before)), float(np.mean(after)), rose, len(runs))


def _sentence(name: str, change: Change) -> str:
    counted = f", higher in {change.rose} of {change.runs} runs" if change.runs > 1 else ""
    if abs(change.mean) < UNCHANGED_BELOW:
        return f"{name} stayed at {percent(change.after)}{counted}."
    verb = "rose" if change.mean > 0 else "fell"
    step = f"{points(change.mean)} points{counted}"
    return f"{name} {verb} from {percent(change.before)} to {percent(change.after)} ({step})."


def _noise(change: Change, images: int) -> float:
    """Half a 95 % interval of the difference of two accuracies on `images` test images, taken as independent."""
    variance = sum(share * (1 - share) for share in (change.before, change.after)) / images
    return 1.96 * float(variance**0.5)


def _verdict(few: Change, top1: Change, noise: float) -> Finding:
    chance = f"the choice of test images alone can make (about ±{100 * noise:.1f} points)"
    if abs(few.mean) <= noise:
        text = (
            f"The change on few-shot classes is within what {chance}: it does not show whether adaptation helps them."
        )
        return Finding("open", text)
    if few.mean < 0:
        text = f"Few-shot classes got worse by more than {chance}: adaptation did not do here what it is for."
        return Finding("shown", text)
    cost = "Overall accuracy did not pay for it."
    if top1.mean <= -UNCHANGED_BELOW:
        cost = f"Overall accuracy paid for it ({points(top1.mean)} points of top-1)."
    return Finding("shown", f"The gain on few-shot classes is larger than {chance}. {cost}")


def _over_seeds(results: Results, factor: int | float) -> Finding:
    if len(results.seeds) == 1:
        text = "No interval: with one seed all runs share one split of the data, and another split may change this."
        return Finding("open", text)
    changes = [change_of(results.of(factor=factor, seed=seed), "few") for seed in results.seeds]
    by_seed = tuple(change.mean for change in changes if change is not None)
    result = spread(by_seed)
    low, high = result.low or 0.0, result.high or 0.0
    interval = f"95 % interval {points(low)} to {points(high)}, sign-flip p {p_text(sign_flip_test(by_seed))}"
    text = f"Over {result.n} seeds few-shot recall changed by {points(result.mean)} points ({interval})"
    if low > 0 or high < 0:
        return Finding("shown", text + ".")
    return Finding("open", text + ": the interval includes no change.")
