"""DARTS inside BBN (1912.02413): two branches under one mixing ratio, one learning rate for all alphas."""

from tailnas.search.objective import TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask


def search(task: SearchTask) -> SearchResult:
    objective = TwoBranch(task.two_branch(), task.settings.mix, task.settings.precision)
    return bilevel_search(task, objective, ["instance", "reversed"])
