"""DARTS with a fixed equiangular classifier, so that no class biases the search (LT-DARTS, 2411.06098; a reading).

The paper's operations for long-tailed data are not part of it.
"""

import torch
from pydantic import Field

from tailnas.foundation.errors import UserError
from tailnas.foundation.seeding import torch_generator
from tailnas.foundation.settings import Positive, Section
from tailnas.imbalance.settings import Mixing
from tailnas.search.branches import SAMPLERS
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import SingleBranch, TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.equiangular import fix_classifier
from tailnas.space.pretrained import supernet
from tailnas.space.settings import Space

start = pretrained_mixture


class Settings(Section):
    """A classifier of fixed vectors at equal angles, with one branch or with BBN's two."""

    scale: Positive = Field(description="Factor s of the cosines of features and class vectors.")
    mixing: Mixing | None = Field(description="null searches with one branch, a mixing ratio with BBN's two.")


def require(settings: Settings, space: Space, classes: int | None, channels: int) -> None:
    """As many features as vectors at equal angles need."""
    if classes is None:
        return
    with torch.device("meta"):
        features = supernet(space, classes, channels).classifier.in_features
    if features < classes - 1:
        raise UserError(
            f"space.channels: {space.channels}, which gives {features} features for {classes} equiangular classes with "
            f"lt_darts; allowed: as many as give {classes - 1}"
        )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    """Features are scaled to length 1, so that the scores are s cos(f, w_c), in cross-entropy."""
    precision = task.training.precision
    objective = (
        SingleBranch(task.single_branch(), precision)
        if settings.mixing is None
        else TwoBranch(task.two_branch(), "logits", precision)
    )
    try:
        fix_classifier(objective.network, settings.scale, torch_generator(task.seed, "search", "classifier"))
    except ValueError as error:
        raise UserError(f"space.channels: {task.space.channels}, which gives {error} with lt_darts") from None
    objective.scales = {"search.lt_darts.scale": settings.scale}
    return bilevel_search(task, objective, SAMPLERS[: objective.branches], settings.mixing)
