"""The control: a genotype drawn at random. A search is only worth what it beats."""

from pydantic import Field

from tailnas.foundation.settings import Section
from tailnas.search.branches import Head
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.random_genotype import random_genotype


class Settings(Section):
    """A genotype drawn at random."""

    head: Head = Field(
        description="The last cell: one more normal cell, or one that is drawn for itself, as the heads of BBN's "
        "searches are."
    )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return SearchResult.chosen(random_genotype(task.candidate_draws(), own_head=settings.head == "own"))
