"""The result of a method that chooses a genotype and trains no alphas."""

from __future__ import annotations

from collections.abc import Mapping

from tailnas.search.cost import Cost
from tailnas.search.record import AlphaRecord, genotype_alphas
from tailnas.search.task import SearchResult
from tailnas.space.genotype import Genotype
from tailnas.training.checkpoint import Row


def chosen(
    genotype: Genotype,
    measured: Mapping[str, float] | None = None,
    tables: Mapping[str, list[Row]] | None = None,
    cost: Cost | None = None,
) -> SearchResult:
    """One row of alphas, from which exactly `genotype` is derived, and one row of history, epoch 0.

    measured: columns of that row. tables: what led to the choice, a CSV file each. cost: nothing was computed if None.
    """
    record = AlphaRecord({name: genotype_alphas(edges) for name, edges in genotype.components().items()})
    row: Row = {"epoch": 0, **(measured or {}), "genotype": record.summary()["genotype"]}
    return SearchResult(record.stacked(), [row], None, cost or Cost(), dict(tables or {}))
