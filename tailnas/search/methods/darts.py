"""DARTS without any re-balancing (1806.09055): one branch, instance-balanced batches."""

from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask


def search(task: SearchTask) -> SearchResult:
    objective = SingleBranch(task.single_branch(), task.settings.precision)
    return bilevel_search(task, objective, ["instance"])
