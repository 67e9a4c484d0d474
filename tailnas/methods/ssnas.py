"""Search without labels on imbalanced data (SSNAS, 2109.08580): DARTS on the loss of Barlow Twins; a reading."""

from tailnas.search.barlow_twins import Unlabelled, unlabelled_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Unlabelled):
    """Barlow Twins on two views of each image, in both halves (method: section 6)."""


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return unlabelled_search(task, settings)
