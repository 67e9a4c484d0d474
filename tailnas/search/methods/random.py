"""The control: a genotype drawn at random. A search is only worth what it beats."""

from tailnas.search.chosen import chosen
from tailnas.search.task import SearchResult, SearchTask
from tailnas.seeding import torch_generator
from tailnas.space.random_genotype import random_genotype


def search(task: SearchTask) -> SearchResult:
    return chosen(random_genotype(torch_generator(task.seed, "search", "random")))
