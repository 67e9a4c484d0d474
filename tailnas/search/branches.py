"""One branch or two (BBN, HLS) for a search by gradient: settings of `darts`, `bbn`, `bbn_hls`, and of their kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.settings import Section
from tailnas.imbalance.settings import Mixing
from tailnas.search.architecture_rates import CONSTANT, BackboneRate
from tailnas.search.objective import Objective, SingleBranch, TwoBranch
from tailnas.search.relaxation import Relaxation
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask
from tailnas.training.checkpoint import Row

Head = Literal["shared", "own"]


class Single(Section):
    """One branch, instance-balanced batches."""

    head: Head = Field(
        description="Alphas of the last cell: those of the normal cells (shared), or its own, as BBN's heads have."
    )


class Mixed(Section):
    """Two branches: instance-balanced batches and reversed ones (method: section 4)."""

    mixing: Mixing = Field(description="Mixing ratio mu of the two branches.")
    mix: Literal["logits", "probabilities"] = Field(
        description="What the branches mix: logits as BBN does, or softmax probabilities (a reading)."
    )


class Rated(Mixed):
    """Two branches, and a learning rate of its own for each architecture component (method: section 5)."""

    heads: Literal["constant", "mixing"] = Field(
        description="Learning rate of the heads' alphas; mixing is mu and 1 - mu (a reading)."
    )
    backbone: BackboneRate = Field(description="Learning rate of the backbone's alphas.")


class OneBranch(Single):
    """One branch, as `darts`."""

    name: Literal["one"]


class Bbn(Mixed):
    """Two branches, as `bbn`."""

    name: Literal["bbn"]


class BbnHls(Rated):
    """Two branches and learning rates of their own, as `bbn_hls`."""

    name: Literal["bbn_hls"]


Branches = Annotated[OneBranch | Bbn | BbnHls, Field(discriminator="name")]


def make_objective(task: SearchTask, branches: Single | Mixed, relaxation: Relaxation) -> Objective:
    """The super-network with its loss."""
    precision, partial = task.training.precision, relaxation.partial
    if isinstance(branches, Single):
        network = task.single_branch(partial=partial, own_head=branches.head == "own")
        return SingleBranch(network, precision, relaxation=relaxation)
    return TwoBranch(task.two_branch(partial=partial), branches.mix, precision, relaxation)


def relaxed_search(
    task: SearchTask,
    branches: Single | Mixed,
    relaxation: Relaxation | None = None,
    *,
    objective: Objective | None = None,
    stop: Callable[[Sequence[Row]], bool] | None = None,
) -> SearchResult:
    """A bilevel search, by default under DARTS' softmax. objective: that of `make_objective`, for later use."""
    objective = objective or make_objective(task, branches, relaxation or Relaxation())
    if isinstance(branches, Single):
        return bilevel_search(task, objective, SAMPLERS[:1], stop=stop)
    heads, backbone = (branches.heads, branches.backbone) if isinstance(branches, Rated) else ("constant", CONSTANT)
    return bilevel_search(task, objective, SAMPLERS, branches.mixing, heads=heads, backbone=backbone, stop=stop)


SAMPLERS = ("instance", "reversed")
"""Of the first and of the second branch."""
