"""Label over-smoothing, LOS (Sun et al. 2025, "Label Over-Smooth Can Balance"; 2403.00250 is its first version)."""

from functools import partial

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tailnas.adapt.head_task import HeadResult, HeadTask
from tailnas.adapt.settings import HeadTraining
from tailnas.foundation.settings import Fraction, Section


class Settings(Section):
    """The retrained head trained on with labels that are smoothed nearly to the uniform distribution."""

    smoothing: Fraction = Field(
        description="delta: the label's class has probability 1 - delta + delta / K, each other class delta / K. The "
        "public code has 0.98."
    )
    training: HeadTraining


def assumed_prior(counts: Tensor, settings: Settings) -> Tensor:
    """Those of the smoothed labels."""
    return (1 - settings.smoothing) * counts / counts.sum() + settings.smoothing / len(counts)


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """Starts from the retrained head; instance-balanced batches, no class sizes."""
    criterion = partial(F.cross_entropy, label_smoothing=settings.smoothing)
    return HeadResult(task.train(task.head, settings.training, "instance", criterion=criterion))
