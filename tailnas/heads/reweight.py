"""The retrained head trained on with the class-balanced loss (method: section 8)."""

from pydantic import Field
from torch import Tensor

from tailnas.adapt.head_task import HeadResult, HeadTask
from tailnas.adapt.settings import HeadTraining
from tailnas.foundation.settings import Fraction, Section
from tailnas.imbalance.class_weights import class_balanced_weights


class Settings(Section):
    """The head trained on with the class-balanced loss."""

    beta: Fraction = Field(description="beta of the class-balanced weights (1 - beta) / (1 - beta^n).")
    training: HeadTraining


def assumed_prior(counts: Tensor, settings: Settings) -> Tensor:
    """As classes weigh in the loss."""
    return counts * class_balanced_weights(counts, settings.beta).double()


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """Starts from the retrained head; instance-balanced batches."""
    weights = class_balanced_weights(task.counts, settings.beta)
    return HeadResult(task.train(task.head, settings.training, "instance", weights))
