"""BBN with heterogeneous learning rates of the architecture components (HLS, 2406.07028)."""

from tailnas.search.objective import TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask


def search(task: SearchTask) -> SearchResult:
    settings = task.settings
    objective = TwoBranch(task.two_branch(), settings.mix, settings.precision)
    return bilevel_search(
        task, objective, ["instance", "reversed"], heads=settings.hls_heads, backbone=settings.hls_backbone
    )
