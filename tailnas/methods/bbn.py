"""DARTS inside BBN (1912.02413): two branches under one mixing ratio, one learning rate for all alphas."""

from tailnas.search.branches import Mixed, relaxed_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture
Settings = Mixed


def search(task: SearchTask, settings: Mixed) -> SearchResult:
    return relaxed_search(task, settings)
