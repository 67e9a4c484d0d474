"""DARTS without any re-balancing (1806.09055): one branch, instance-balanced batches."""

from pydantic import Field

from tailnas.foundation.settings import Section
from tailnas.search.branches import Head
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask

SAMPLERS = ("instance",)
start = pretrained_mixture


class Settings(Section):
    """One branch."""

    head: Head = Field(
        description="Alphas of the last cell: shared with the normal cells, or its own, as the heads of BBN's searches "
        "have them."
    )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    network = task.single_branch(own_head=settings.head == "own")
    return bilevel_search(task, SingleBranch(network, task.training.precision), SAMPLERS)
