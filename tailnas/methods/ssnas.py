"""Search without labels on imbalanced data (SSNAS, 2109.08580): DARTS on the loss of Barlow Twins; a reading."""

from dataclasses import fields, replace
from typing import Annotated

from pydantic import Field

from tailnas.foundation.seeding import seed_for
from tailnas.foundation.settings import NonNegative, Section
from tailnas.search.barlow_twins import VIEWS, BarlowTwins, TwoViews
from tailnas.search.method import pretrained_mixture
from tailnas.search.run import bilevel_cost, bilevel_search
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.supernet import seeded_initialisation

SAMPLERS = ("instance",)
start = pretrained_mixture


class Settings(Section):
    """Barlow Twins on two views of each image, in both halves (method: section 6)."""

    projector: Annotated[int, Field(ge=2, le=65536)] = Field(description="Units of the projector's three layers.")
    redundancy: NonNegative = Field(description="lambda, the weight of the squares off the diagonal.")
    crop_padding: Annotated[int, Field(ge=0, le=512)] = Field(
        description="Pixels of the random crops' zero padding that tells two views of an image apart."
    )


def two_views(task: SearchTask, crop_padding: int) -> TwoViews:
    """`task` with two views of each image in the place of a batch."""
    return TwoViews(**{field.name: getattr(task, field.name) for field in fields(task)}, crop_padding=crop_padding)


def search(task: SearchTask, settings: Settings) -> SearchResult:
    network = task.single_branch()
    with seeded_initialisation(seed_for(task.seed, "search", "projector")):
        objective = BarlowTwins(network, settings.projector, settings.redundancy, task.training.precision)
    result = bilevel_search(two_views(task, settings.crop_padding), objective, SAMPLERS)
    del network.projector  # what is left is the super-network that every search writes
    return replace(result, cost=bilevel_cost(task, VIEWS, result.cost.weights_trained))
