"""IMB-NAS (2210.00136): rank sub-networks with a balanced super-network that is adapted to the imbalanced target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tailnas.data.batches import Batches
from tailnas.data.device import DeviceImages, Normalisation
from tailnas.errors import UserError
from tailnas.imbalance.samplers import make_sampler
from tailnas.search.candidates import make_candidates
from tailnas.search.chosen import chosen
from tailnas.search.cost import Cost
from tailnas.search.path_adaptation import adapt_paths
from tailnas.search.ranking import rank
from tailnas.search.task import SearchResult, SearchTask
from tailnas.seeding import torch_generator
from tailnas.space.genotype import Genotype
from tailnas.space.supernet import SuperNet
from tailnas.training.checkpoint import Row
from tailnas.training.paths import path_accuracy, statistics_images
from tailnas.training.pretraining import supernet


@dataclass(frozen=True)
class Scorer:
    """Scores paths of `network` on `data`; BatchNorm statistics are estimated on the images `statistics`."""

    network: SuperNet
    statistics: Sequence[Tensor]
    data: DeviceImages
    normalisation: Normalisation
    batch_size: int

    def __call__(self, genotype: Genotype, index: int, step_done: Callable[[], None]) -> dict[str, float]:
        size = 2 * self.batch_size
        score = path_accuracy(self.network, genotype, self.statistics, self.data, self.normalisation, size)
        step_done()
        return {"balanced_accuracy": score}

    @property
    def images(self) -> int:
        """Images that scoring one path passes."""
        return len(self.data) + sum(map(len, self.statistics))


def search(task: SearchTask) -> SearchResult:
    settings = task.settings
    scorer, adapted, cost = source_scorer(task) if settings.adaptation == "none" else target_scorer(task)
    candidates = make_candidates(settings, torch_generator(task.seed, "search", "candidates"))
    best, table = rank(candidates, settings.candidates, scorer, task.loop.part("ranking"))
    multiply_adds = task.path_costs
    passes = sum(multiply_adds(Genotype.from_json(str(row["genotype"]))) for row in table)
    cost = replace(
        cost,
        scored_images=cost.scored_images + len(table) * scorer.images,
        total_multiply_adds=cost.total_multiply_adds + scorer.images * passes,
        details={"candidates": len(table)},
    )
    tables = {"candidates": table} | ({"adaptation": adapted} if adapted else {})
    return chosen(best, {"balanced_accuracy": float(table[-1]["best_balanced_accuracy"])}, tables, cost)


def source_scorer(task: SearchTask) -> tuple[Scorer, list[Row], Cost]:
    """The source's own ranking: its classifier on its held-out images; the target is not looked at."""
    assert task.source is not None
    source, state = task.source(), pretrained(task)
    classes = len(state["classifier.weight"])
    network = supernet(task.space, classes, source.train.images.shape[1])
    network.load_state_dict(state)
    normalisation = Normalisation.of(source.train.images)
    generator = torch_generator(task.seed, "search", "statistics")
    sampler = make_sampler("instance", source.train.labels.cpu(), classes, generator)
    batches = Batches(source.train, sampler, task.settings.batch_size, normalisation, None, generator)
    statistics = statistics_images(batches, task.settings.statistics_batches)
    network = network.to(task.device)
    return Scorer(network, statistics, source.held_out, normalisation, task.settings.batch_size), [], Cost()


def target_scorer(task: SearchTask) -> tuple[Scorer, list[Row], Cost]:
    """The super-network adapted on the weight half, measured on the architecture half."""
    settings = task.settings
    if settings.adaptation == "scratch":
        network = replace(task, pretrained=None).single_branch()
    else:
        pretrained(task)
        network = task.single_branch()
    generator = torch_generator(task.seed, "search", "statistics")
    sampler = make_sampler("instance", task.weights.labels.cpu(), task.num_classes, generator)
    batches = Batches(task.weights, sampler, settings.batch_size, task.normalisation, None, generator)
    statistics = statistics_images(batches, settings.statistics_batches)
    history, cost = adapt_paths(task, network, statistics, task.loop)
    return Scorer(network, statistics, task.architecture, task.normalisation, settings.batch_size), history, cost


def pretrained(task: SearchTask) -> dict[str, Tensor]:
    """The single-path super-network's weights. Raises UserError where there are none."""
    if task.pretrained is None:
        raise UserError(
            f"search.adaptation: {task.settings.adaptation!r} without a single-path super-network; allowed: 'scratch'"
        )
    return task.pretrained
