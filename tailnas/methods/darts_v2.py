"""The published cell (1806.09055), searched on balanced CIFAR-10: a reference there, and no control elsewhere."""

from tailnas.foundation.settings import NoSettings
from tailnas.genotype.genotype import DARTS_V2, Genotype
from tailnas.search.task import SearchResult, SearchTask

Settings = NoSettings


def genotypes(settings: NoSettings) -> list[Genotype]:
    return [DARTS_V2]


def search(task: SearchTask, settings: NoSettings) -> SearchResult:
    return SearchResult.chosen(genotypes(settings)[0])
