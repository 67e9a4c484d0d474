"""The retrained head trained on with the class-balanced loss (method: section 8)."""

from tailnas.imbalance.losses.weights import class_balanced_weights
from tailnas.training.heads.task import HeadResult, HeadTask


def adapt_head(task: HeadTask) -> HeadResult:
    """Starts from the retrained head; instance-balanced batches."""
    weights = class_balanced_weights(task.counts, task.settings.beta)
    return HeadResult(task.train(task.head, "instance", weights))
