"""DARTS with class-balanced batches in both halves: re-sampling alone."""

from tailnas.foundation.settings import NoSettings
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask

Settings = NoSettings
start = pretrained_mixture


def search(task: SearchTask, settings: NoSettings) -> SearchResult:
    return bilevel_search(task, SingleBranch(task.single_branch(), task.training.precision), ("class_balanced",))
