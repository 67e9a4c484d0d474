"""Ranking by a zero-cost proxy (2101.08134): no network is trained; the cheapest search there is."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from tailnas.batches.batches import Batches
from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.foundation.settings import Section
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.samplers import make_sampler
from tailnas.search.candidates import CandidateSource, make_candidates
from tailnas.search.cost import Cost
from tailnas.search.ranking import rank
from tailnas.search.task import SearchResult, SearchTask
from tailnas.search.zero_cost import FORWARD_ONLY, PROXIES
from tailnas.space.path_costs import candidate_network
from tailnas.space.supernet import seeded_initialisation


class Settings(Section):
    """Random weights and one batch rank sub-networks (method: section 6)."""

    proxy: Literal["synflow", "snip", "grad_norm", "nwot", "jacov", "offset", "parameters"] = Field(
        description="What ranks; parameters, their number, is what the others have to beat."
    )
    candidates: CandidateSource = Field(description="Where sub-networks come from.")
    batch_size: Annotated[int, Field(ge=2, le=65536)] = Field(
        description="Different images of the weight half on which each candidate is scored, if it has as many."
    )
    sampler: Literal["instance", "class_balanced"] = Field(
        description="How often a class is drawn: as often as it occurs, or all alike while their images last."
    )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    images, labels = proxy_batch(task, settings)
    column = settings.proxy

    def score(genotype: Genotype, index: int, step_done: Callable[[], None]) -> dict[str, float]:
        value = proxy_score(task, settings.proxy, genotype, index, images, labels)
        step_done()
        return {column: value}

    candidates = make_candidates(settings.candidates, task.candidate_draws())
    best, table = rank(candidates, settings.candidates.count, score, task.loop, by=column)
    passed = {"synflow": 1, "parameters": 0}.get(settings.proxy, len(images))
    passes, multiply_adds = len(table) * passed, task.path_costs
    forward = settings.proxy in FORWARD_ONLY
    cost = Cost(
        trained_images=0 if forward else passes,
        scored_images=passes if forward else 0,
        total_multiply_adds=sum(passed * multiply_adds(Genotype.from_json(str(row["genotype"]))) for row in table),
        details={"candidates": len(table)},
    )
    return SearchResult.chosen(best, {column: float(table[-1][f"best_{column}"])}, {"candidates": table}, cost)


def proxy_score(task: SearchTask, proxy: str, genotype: Genotype, index: int, images: Tensor, labels: Tensor) -> float:
    """The proxy of the genotype's network, as wide and deep as the super-network, its weights drawn from seed and
    `index`.
    """
    with seeded_initialisation(seed_for(task.seed, "search", "zero cost", index)):
        network = candidate_network(genotype, task.space, task.num_classes, task.weight_half.images.shape[1])
    return PROXIES[proxy](network.to(task.device), images, labels)


def proxy_batch(task: SearchTask, settings: Settings) -> tuple[Tensor, Tensor]:
    """The first `batch_size` different images of the weight half that the sampler draws, normalised, and their labels.

    An image twice would have one code and one gradient: nothing that tells networks apart.
    """
    half = task.weight_half
    generator = torch_generator(task.seed, "search", "zero cost", "batch")
    sampler = make_sampler(settings.sampler, half.labels.cpu(), task.num_classes, generator)
    wanted, rows = min(settings.batch_size, len(half)), dict[int, None]()
    while len(rows) < wanted:
        rows |= dict.fromkeys(sampler.epoch(1, wanted).flatten().tolist())
    batches = Batches(half, sampler, wanted, task.normalisation, None, generator)
    return batches.make(torch.tensor([list(rows)[:wanted]], device=task.device))
