"""Classifier re-training, cRT (Kang et al. 2020, 1910.09217, section 4.1)."""

import torch
from torch import nn

from tailnas.adapt.head_task import HeadResult, HeadTask
from tailnas.adapt.settings import BalancedSampler, HeadTraining
from tailnas.foundation.seeding import seed_for
from tailnas.foundation.settings import Section
from tailnas.space.supernet import seeded_initialisation

HEAD = "new"


class Settings(Section):
    """A new head, trained on class-balanced batches."""

    sampler: BalancedSampler
    training: HeadTraining


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """A new head, trained on class-balanced batches."""
    with seeded_initialisation(seed_for(task.seed, "adapt", "head")):
        fresh = nn.Linear(task.head.in_features, task.head.out_features)
    with torch.no_grad():
        task.head.weight.copy_(fresh.weight)
        task.head.bias.copy_(fresh.bias)
    return HeadResult(task.train(task.head, settings.training, settings.sampler))
