"""The hand-made reference: ResNet-32 (1512.03385), as wide as `retrain.network` says."""

from tailnas.foundation.settings import NoSettings
from tailnas.genotype.genotype import Genotype
from tailnas.search.task import SearchResult, SearchTask

Settings = NoSettings


def genotypes(settings: NoSettings) -> list[Genotype]:
    return [Genotype(network="resnet32")]


def search(task: SearchTask, settings: NoSettings) -> SearchResult:
    return SearchResult.chosen(genotypes(settings)[0])
