"""The plain-language section, chapter by chapter."""

from __future__ import annotations

from collections.abc import Callable

from tailnas.data.repeated import Repeated
from tailnas.report.findings.best import best_findings
from tailnas.report.findings.finding import Chapter, Finding
from tailnas.report.findings.heads import adaptation_findings
from tailnas.report.findings.limits import limit_findings, repeated_findings
from tailnas.report.findings.methods import method_findings
from tailnas.report.findings.searches import search_findings
from tailnas.report.findings.spread import spread_findings
from tailnas.report.findings.told import told_findings
from tailnas.report.runs import Factor, Results


def chapters(results: Results, repeated: Repeated) -> list[Chapter]:
    """Everything the study can say in words, from its numbers alone. repeated: images that the target has twice."""
    spread, told = _each_factor(spread_findings, results), _each_factor(told_findings, results)
    return [
        Chapter("What head adaptation did", _each_factor(adaptation_findings, results)),
        Chapter("Which methods can be told apart", _each_factor(method_findings, results)),
        *([Chapter("What the spread is made of", spread)] if spread else []),
        Chapter("Whether the searches searched", search_findings(results)),
        *([Chapter("What cannot be told of rare classes", told)] if told else []),
        Chapter("Which model to use", best_findings(results)),
        Chapter("What limits every figure here", [*repeated_findings(repeated), *limit_findings(results)]),
    ]


def _each_factor(find: Callable[[Results, Factor], list[Finding]], results: Results) -> list[Finding]:
    """Findings of every factor; what reads the same for several stands there once."""
    return list(dict.fromkeys(finding for factor in results.factors for finding in find(results, factor)))
