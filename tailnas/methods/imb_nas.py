"""IMB-NAS (2210.00136): rank sub-networks with a balanced super-network that is adapted to the imbalanced target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from pydantic import Field
from torch import Tensor

from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import torch_generator
from tailnas.foundation.settings import Section
from tailnas.genotype.genotype import Genotype
from tailnas.imbalance.samplers import make_sampler
from tailnas.search.adapt_paths import NotAdapted, PathAdaptation, TrainedHead, TrainedNetwork, adapt_paths
from tailnas.search.candidates import CandidateSource, make_candidates
from tailnas.search.cost import Cost
from tailnas.search.ranking import rank
from tailnas.search.settings import Bilevel
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.pretrained import Paths, supernet
from tailnas.space.supernet import SuperNet
from tailnas.training.checkpoint import Row
from tailnas.training.loop import require_finite
from tailnas.training.single_path import path_accuracy, statistics_images


class Settings(Section):
    """A single-path super-network is adapted to the target and ranks sub-networks (method: section 7)."""

    adaptation: PathAdaptation = Field(description="How the single-path super-network gets to the target.")
    candidates: CandidateSource = Field(description="Where sub-networks come from.")
    statistics_batches: Annotated[int, Field(ge=0, le=1000)] = Field(
        description="Batches on which the BatchNorm statistics of each candidate are estimated anew, at most one pass; "
        "0 keeps those that all paths share."
    )


def start(bilevel: Bilevel, settings: Settings) -> Paths | None:
    """A single-path super-network, unless it is trained from random weights."""
    return None if settings.adaptation.name == "scratch" else "single"


@dataclass(frozen=True)
class Scorer:
    """Scores paths of `network` on `data`; BatchNorm statistics are estimated on the images `statistics`."""

    network: SuperNet
    statistics: Sequence[Tensor]
    data: DeviceImages
    normalisation: Normalisation
    batch_size: int
    check: Callable[[float], None] = lambda largest: None
    """Called with the largest absolute logit of a path."""

    def __call__(self, genotype: Genotype, index: int, step_done: Callable[[], None]) -> dict[str, float]:
        size = 2 * self.batch_size
        score = path_accuracy(self.network, genotype, self.statistics, self.data, self.normalisation, size, self.check)
        step_done()
        return {"balanced_accuracy": score}

    @property
    def images(self) -> int:
        """Images that scoring one path passes."""
        return len(self.data) + sum(map(len, self.statistics))


def search(task: SearchTask, settings: Settings) -> SearchResult:
    if isinstance(settings.adaptation, NotAdapted):
        scorer, adapted, cost = source_scorer(task, settings)
    else:
        scorer, adapted, cost = target_scorer(task, settings, settings.adaptation)
    candidates = make_candidates(settings.candidates, task.candidate_draws())
    best, table = rank(candidates, settings.candidates.count, scorer, task.loop.part("ranking"))
    multiply_adds = task.path_costs
    passes = sum(multiply_adds(Genotype.from_json(str(row["genotype"]))) for row in table)
    cost = replace(
        cost,
        scored_images=cost.scored_images + len(table) * scorer.images,
        total_multiply_adds=cost.total_multiply_adds + scorer.images * passes,
        details={"candidates": len(table)},
    )
    tables = {"candidates": table} | ({"adaptation": adapted} if adapted else {})
    return SearchResult.chosen(best, {"balanced_accuracy": float(table[-1]["best_balanced_accuracy"])}, tables, cost)


def source_scorer(task: SearchTask, settings: Settings) -> tuple[Scorer, list[Row], Cost]:
    """The source's own ranking: its classifier on its held-out images; the target is not looked at."""
    assert task.source is not None
    source, state = task.source(), pretrained(task, settings)
    classes = len(state["classifier.weight"])
    network = supernet(task.space, classes, source.train.images.shape[1])
    network.load_state_dict(state)
    normalisation = Normalisation.of(source.train.images)
    generator = torch_generator(task.seed, "search", "statistics")
    sampler = make_sampler("instance", source.train.labels.cpu(), classes, generator)
    batches = Batches(source.train, sampler, task.training.batch_size, normalisation, None, generator)
    statistics = statistics_images(batches, settings.statistics_batches)
    network = network.to(task.device)
    return Scorer(network, statistics, source.held_out, normalisation, task.training.batch_size), [], Cost()


def target_scorer(
    task: SearchTask, settings: Settings, adaptation: TrainedHead | TrainedNetwork
) -> tuple[Scorer, list[Row], Cost]:
    """The super-network adapted on the weight half, measured on the architecture half."""
    size = task.training.batch_size
    if adaptation.name == "scratch":
        network = replace(task, pretrained=None).single_branch()
    else:
        pretrained(task, settings)
        network = task.single_branch()
    generator = torch_generator(task.seed, "search", "statistics")
    sampler = make_sampler("instance", task.weight_half.labels.cpu(), task.num_classes, generator)
    batches = Batches(task.weight_half, sampler, size, task.normalisation, None, generator)
    statistics = statistics_images(batches, settings.statistics_batches)
    history, cost = adapt_paths(adaptation, task, network, statistics)
    check = partial(require_finite, task.training, task.loop.section, what="a prediction of a path")
    return Scorer(network, statistics, task.architecture_half, task.normalisation, size, check), history, cost


def pretrained(task: SearchTask, settings: Settings) -> dict[str, Tensor]:
    """The single-path super-network's weights. Raises UserError where there are none."""
    if task.pretrained is None:
        raise UserError(
            f"search.imb_nas.adaptation.name: {settings.adaptation.name!r} without a single-path super-network; "
            "allowed: 'scratch'"
        )
    return task.pretrained
