"""FairDARTS (1911.12126): each primitive has a sigmoid of its own instead of a share of a softmax."""

from __future__ import annotations

from pydantic import Field

from tailnas.foundation.settings import NonNegative, Section
from tailnas.search.branches import Branches, relaxed_search
from tailnas.search.independent import Independent
from tailnas.search.method import pretrained_mixture
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Section):
    """Independent primitives, and a loss that drives their weights to 0 or 1."""

    branches: Branches = Field(description="One branch, or two.")
    weight: NonNegative = Field(description="Factor of the zero-one loss; 10 in the paper.")


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return relaxed_search(task, settings.branches, Independent(settings.weight))
