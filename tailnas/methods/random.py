"""The control: a genotype drawn at random. A search is only worth what it beats."""

from tailnas.foundation.settings import NoSettings
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.random_genotype import random_genotype

Settings = NoSettings


def search(task: SearchTask, settings: NoSettings) -> SearchResult:
    return SearchResult.chosen(random_genotype(task.candidate_draws()))
