"""One branch or two (BBN, HLS) for a search by gradient: a section of any method's settings."""

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


class OneBranch(Section):
    """One branch, instance-balanced batches, as `darts`."""

    name: Literal["one"]
    head: Head = Field(
        description="Alphas of the last cell: those of the normal cells, or its own, as BBN's heads have."
    )


class Bbn(Section):
    """Two branches, as `bbn`."""

    name: Literal["bbn"]
    mixing: Mixing = Field(description="Mixing ratio mu of the two branches.")
    mix: Literal["logits", "probabilities"] = Field(description="What the branches mix.")


class BbnHls(Section):
    """Two branches and learning rates of their own, as `bbn_hls`."""

    name: Literal["bbn_hls"]
    mixing: Mixing = Field(description="Mixing ratio mu of the two branches.")
    mix: Literal["logits", "probabilities"] = Field(description="What the branches mix.")
    heads: Literal["constant", "mixing"] = Field(description="Learning rate of the heads' alphas.")
    backbone: BackboneRate = Field(description="Learning rate of the backbone's alphas.")


Branches = Annotated[OneBranch | Bbn | BbnHls, Field(discriminator="name")]


def make_objective(task: SearchTask, branches: OneBranch | Bbn | BbnHls, relaxation: Relaxation) -> Objective:
    """The super-network with its loss."""
    precision, partial = task.training.precision, relaxation.partial
    if isinstance(branches, OneBranch):
        network = task.single_branch(partial=partial, own_head=branches.head == "own")
        return SingleBranch(network, precision, relaxation=relaxation)
    return TwoBranch(task.two_branch(partial=partial), branches.mix, precision, relaxation)


def relaxed_search(
    task: SearchTask,
    branches: OneBranch | Bbn | BbnHls,
    relaxation: Relaxation,
    *,
    objective: Objective | None = None,
    stop: Callable[[Sequence[Row]], bool] | None = None,
) -> SearchResult:
    """A bilevel search under `relaxation`. objective: that of `make_objective`, for callers that need it afterwards."""
    objective = objective or make_objective(task, branches, relaxation)
    if isinstance(branches, OneBranch):
        return bilevel_search(task, objective, SAMPLERS[:1], stop=stop)
    heads, backbone = (branches.heads, branches.backbone) if isinstance(branches, BbnHls) else ("constant", CONSTANT)
    return bilevel_search(task, objective, SAMPLERS, branches.mixing, heads=heads, backbone=backbone, stop=stop)


SAMPLERS = ("instance", "reversed")
"""Of the first and of the second branch."""
