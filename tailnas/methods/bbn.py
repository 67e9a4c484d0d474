"""DARTS inside BBN (1912.02413): two branches under one mixing ratio, one learning rate for all alphas."""

from typing import Literal

from pydantic import Field

from tailnas.foundation.settings import Section
from tailnas.imbalance.settings import Mixing
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import TwoBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask

SAMPLERS = ("instance", "reversed")
start = pretrained_mixture


class Settings(Section):
    """Two branches: instance-balanced batches and reversed ones (method: section 4)."""

    mixing: Mixing = Field(description="Mixing ratio mu of the two branches.")
    mix: Literal["logits", "probabilities"] = Field(
        description="What the branches mix: logits as BBN does, or softmax probabilities (a reading)."
    )


def search(task: SearchTask, settings: Settings) -> SearchResult:
    objective = TwoBranch(task.two_branch(), settings.mix, task.training.precision)
    return bilevel_search(task, objective, SAMPLERS, settings.mixing)
