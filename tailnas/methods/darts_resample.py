"""DARTS with class-balanced batches in both halves: re-sampling alone."""

from tailnas.search.branches import Single
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Single):
    """Class-balanced batches in both halves."""


def search(task: SearchTask, settings: Settings) -> SearchResult:
    network = task.single_branch(own_head=settings.head == "own")
    return bilevel_search(task, SingleBranch(network, task.training.precision), ("class_balanced",))
