"""Of which classes and groups the test images cannot tell the recall."""

from __future__ import annotations

from tailnas.evaluate.intervals import TOO_WIDE
from tailnas.report.figures import label
from tailnas.report.findings.finding import Finding
from tailnas.report.recalls import Pooled, pooled
from tailnas.report.runs import Factor, Results
from tailnas.report.summary import METRIC_TITLES

NAMED_AT_MOST = 8
FOLDS = (
    "The seeds are the folds of a cross-validation: each tests images of its own, and together they test every image "
    "once. Their networks share most of their training images, so that intervals and tests over seeds are narrower "
    "than those of another data set would be (that variance has no unbiased estimate; Bengio and Grandvalet, 2004)."
)


def told_findings(results: Results, factor: Factor) -> list[Finding]:
    """Recalls of the adapted networks whose interval is wider than TOO_WIDE with every method; nothing without such."""
    found = [one for method in results.methods if (one := pooled(results, factor, method, "adapted")) is not None]
    if not found:
        return []
    head, width = f"{results.title(factor)}: ", f"{100 * TOO_WIDE:.0f} points"
    findings = [Finding("note", FOLDS)] if results.folds else []
    classes = results.of(factor=factor)[0].classes
    open_classes = [c for c in range(len(classes)) if all(one.of_class(c).width > TOO_WIDE for one in found)]
    if open_classes:
        open_classes.sort(key=lambda c: found[0].images[c])
        named = ", ".join(_named(classes[c], c, found[0]) for c in open_classes[:NAMED_AT_MOST])
        more = len(open_classes) - NAMED_AT_MOST
        advice = "More test images" + ("" if results.folds else " or split.folds") + " would tell."
        findings.append(
            Finding(
                "open",
                f"{head}the recall of {len(open_classes)} of {len(classes)} classes cannot be told: its 95 % interval "
                f"is wider than {width} with every method. {named}{f' and {more} more' if more > 0 else ''}. {advice}",
            )
        )
    groups = [name for name in ("many", "medium", "few") if all(one.of(name).width > TOO_WIDE for one in found)]
    if groups:
        named = " and ".join(METRIC_TITLES[name].lower() for name in groups)
        text = f"{head}{named} recall cannot be told: its 95 % interval is wider than {width} with every method."
        findings.append(Finding("open", text))
    return findings


def _named(name: str, c: int, found: Pooled) -> str:
    images = round(float(found.images[c]))
    if not images:
        return f"{label(name, 24)} (no test image)"
    low, high = (100 * end for end in (found.of_class(c).low, found.of_class(c).high))
    return f"{label(name, 24)} ({images} test image{'' if images == 1 else 's'}: {low:.0f} to {high:.0f} %)"
