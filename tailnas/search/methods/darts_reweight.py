"""DARTS with the class-balanced loss (1901.05555) in both halves, each weighted by its own class sizes."""

import torch

from tailnas.imbalance.losses import class_balanced_weights
from tailnas.search.objective import SingleBranch
from tailnas.search.run import bilevel_search
from tailnas.search.task import SearchResult, SearchTask


def search(task: SearchTask) -> SearchResult:
    weights = {
        half: class_balanced_weights(
            torch.bincount(data.labels, minlength=task.num_classes).cpu(), task.settings.beta
        ).to(task.device)
        for half, data in {"weights": task.weights, "architecture": task.architecture}.items()
    }
    objective = SingleBranch(task.single_branch(), task.settings.precision, weights)
    return bilevel_search(task, objective, ["instance"])
