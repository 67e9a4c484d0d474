"""BBN with heterogeneous learning rates of the architecture components (HLS, 2406.07028)."""

from typing import Literal

from pydantic import Field

from tailnas.foundation.settings import Section
from tailnas.imbalance.settings import Mixing
from tailnas.search.architecture_rates import BackboneRate
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask

SAMPLERS = ("instance", "reversed")
start = pretrained_mixture


class Settings(Section):
    """Two branches, and a learning rate of its own for each architecture component (method: section 5)."""

    mixing: Mixing = Field(description="Mixing ratio mu of the two branches.")
    mix: Literal["logits", "probabilities"] = Field(
        description="What the branches mix: logits as BBN does, or softmax probabilities (a reading)."
    )
    heads: Literal["constant", "mixing"] = Field(
        description="Learning rate of the heads' alphas; mixing is mu and 1 - mu (a reading)."
    )
    backbone: BackboneRate = Field(description="Learning rate of the backbone's alphas.")


def search(task: SearchTask, settings: Settings) -> SearchResult:
    objective = TwoBranch(task.two_branch(), settings.mix, task.training.precision)
    return bilevel_search(task, objective, SAMPLERS, settings.mixing, heads=settings.heads, backbone=settings.backbone)
