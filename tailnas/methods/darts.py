"""DARTS without any re-balancing (1806.09055): one branch, instance-balanced batches."""

from tailnas.search.branches import Single, relaxed_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture
Settings = Single


def search(task: SearchTask, settings: Single) -> SearchResult:
    return relaxed_search(task, settings)
