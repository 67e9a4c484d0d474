"""DARTS with the class-balanced loss (1901.05555) in both halves, each weighted by its own class sizes."""

import torch
from pydantic import Field

from tailnas.foundation.settings import Fraction
from tailnas.imbalance.class_weights import class_balanced_weights
from tailnas.search.branches import Single
from tailnas.search.method import pretrained_mixture
from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Single):
    """Class-balanced loss in both halves."""

    beta: Fraction = Field(description="beta of the weights (1 - beta) / (1 - beta^n), n of the half in use.")


def search(task: SearchTask, settings: Settings) -> SearchResult:
    weights = {
        half: class_balanced_weights(torch.bincount(data.labels, minlength=task.num_classes).cpu(), settings.beta).to(
            task.device
        )
        for half, data in task.halves.items()
    }
    network = task.single_branch(own_head=settings.head == "own")
    return bilevel_search(task, SingleBranch(network, task.training.precision, weights), ("instance",))
