"""DARTS-PT (2108.04392): a search of DARTS, and a genotype by what the super-network loses, not by the alphas."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from tailnas.foundation.settings import Section
from tailnas.search.branches import SAMPLERS, Branches, make_objective, relaxed_search
from tailnas.search.method import pretrained_mixture
from tailnas.search.perturbation import perturbation_selection
from tailnas.search.relaxation import Relaxation
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Section):
    """Perturbation-based selection after the search; `derive.epoch` has no effect."""

    branches: Branches = Field(description="One branch, or two.")
    tuning_epochs: Annotated[int, Field(ge=0, le=1000)] = Field(
        description="Epochs that the super-network is tuned after each of 16 rounds of decisions; 10 in its code."
    )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    relaxation = Relaxation()
    objective = make_objective(task, settings.branches, relaxation)
    result = relaxed_search(task, settings.branches, relaxation, objective=objective)
    assert result.alphas is not None
    last = {name: values[-1].to(task.device) for name, values in result.alphas.items()}
    samplers = SAMPLERS[: objective.branches]
    genotype, table, cost = perturbation_selection(task, objective, last, samplers, settings.tuning_epochs, result.cost)
    tables = {**result.tables, "selection": table}
    return replace(result, genotype=genotype.in_order(), tables=tables, cost=cost)
