"""BBN with heterogeneous learning rates of the architecture components (HLS, 2406.07028)."""

from tailnas.search.branches import Rated, relaxed_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture
Settings = Rated


def search(task: SearchTask, settings: Rated) -> SearchResult:
    return relaxed_search(task, settings)
