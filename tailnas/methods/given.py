"""Genotypes that are given, such as those of a table: retrained and tested again, nothing is searched."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tailnas.foundation.settings import Section
from tailnas.genotype.genotype import Genotype
from tailnas.search.cost import Cost
from tailnas.search.task import SearchResult, SearchTask


def _genotype(text: str) -> str:
    try:
        Genotype.from_json(text)
    except ValueError:
        raise ValueError("a genotype in one line of JSON, as summary.csv has it") from None
    return text


class Settings(Section):
    """Genotypes from elsewhere."""

    genotypes: Annotated[list[Annotated[str, AfterValidator(_genotype)]], Field(min_length=1)] = Field(
        description="Genotypes in one line of JSON each, as summary.csv has them. Seed s takes entry s modulo their "
        "number."
    )


def genotypes(settings: Settings) -> list[Genotype]:
    """Those of the lines, with their edges in the order given."""
    return [Genotype.from_json(line) for line in settings.genotypes]


def search(task: SearchTask, settings: Settings) -> SearchResult:
    """The genotype with its edges in the order given, which the initial weights of a retraining depend on."""
    known = genotypes(settings)
    found = known[task.seed % len(known)]
    return SearchResult([{"epoch": 0, "genotype": found.to_line()}], Cost(), genotype=found)
