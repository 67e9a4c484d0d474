"""Whether it is searches or retrainings that differ."""

from __future__ import annotations

from tailnas.report.findings.finding import Finding, percent
from tailnas.report.runs import Factor, Results
from tailnas.report.variance import Spreads, spreads


def spread_findings(results: Results, factor: Factor) -> list[Finding]:
    """Variance components of top-1 after adaptation; nothing in a study with one retraining of each genotype."""
    rows = [row for row in spreads(results, factor) if (row.metric, row.model) == ("top1", "adapted")]
    if rows:
        return [Finding("note", f"{results.title(factor)}: {_components(rows[0])}")]
    if len(results.retrain_seeds) > 1:
        text = "With one seed there is one search of each method: its retrainings do not tell how much searches differ."
        return [Finding("open", text)]
    return []


def _components(row: Spreads) -> str:
    found = row.components
    between, within = 100 * found.between**0.5, 100 * found.within**0.5
    share = "" if found.share is None else f", {percent(found.share)} of the variance"
    if found.low is not None and found.high is not None:
        share += f" (95 % interval {percent(found.low)} to {percent(found.high)})"
    one, more = ((found.between / found.groups + found.within / (found.groups * n)) ** 0.5 for n in (1, found.members))
    return (
        f"top-1 after adaptation differs with a standard deviation of {between:.1f} points between seeds (another "
        f"split, super-network and search){share}, and of {within:.1f} between retrainings of one genotype. The mean "
        f"of a method over {found.groups} seeds has a standard error of {100 * one:.1f} points with one retraining "
        f"each, and of {100 * more:.1f} with the {found.members} of this study."
    )
