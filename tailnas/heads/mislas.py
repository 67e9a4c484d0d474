"""Second stage of MiSLAS (Zhong et al. 2021, 2104.00466).

Label-aware smoothing, learnable weight scaling and shifted BatchNorm.
"""

from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn

from tailnas.adapt.head_task import HeadResult, HeadTask
from tailnas.adapt.settings import HeadTraining
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.seeding import torch_generator
from tailnas.foundation.settings import Section, Share
from tailnas.imbalance.samplers import make_sampler
from tailnas.imbalance.settings import ClassSmoothing
from tailnas.imbalance.smoothing import class_smoothing, smoothed_cross_entropy
from tailnas.space.network import Network


class Settings(Section):
    """One learned scale per class and the retrained head trained on, with label-aware smoothing."""

    smoothing: ClassSmoothing = Field(description="How much the label of a class is smoothed.")
    classifier_rate: Share = Field(
        description="Learning rate of the class vectors as a part of that of the scales; 0 learns the scales alone."
    )
    shift_batch_norm: bool = Field(
        description="Estimate BatchNorm's running statistics anew on class-balanced batches, before all else."
    )
    training: HeadTraining


def prepare(network: Network, data: DeviceImages, seed: int, settings: Settings) -> None:
    """Shifted BatchNorm: running statistics become means over one pass of class-balanced batches; no weight changes.

    A reading: the public code lets moving averages follow the batches while the classifier is trained.
    """
    if not settings.shift_batch_norm:
        return
    drawing = torch_generator(seed, "adapt", "batch norm")
    sampler = make_sampler("class_balanced", data.labels.cpu(), network.num_classes, drawing)
    normalisation = Normalisation(*network.normalisation)
    batches = Batches(data, sampler, settings.training.batch_size, normalisation, None, drawing)
    network.train()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d) and part.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches instead of a moving one
    with torch.no_grad():
        for images, _ in batches.epoch():
            network.features(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


class ScaledClassifier(nn.Module):
    """s_c (w_c f + b_c), all of it trained: `scale` (K,) starts at 1, weight (K, D) and bias (K,) where `head` is.

    rate: the learning rate of weight and bias as a part of that of the scales, weight decay included.
    """

    def __init__(self, head: nn.Linear, rate: float, weight_decay: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(head.weight.detach().clone())
        self.bias = nn.Parameter(head.bias.detach().clone())
        self.scale = nn.Parameter(torch.ones_like(head.bias))
        for values in (self.weight, self.bias):
            values.register_hook(partial(_slowed, values=values, rate=rate, weight_decay=weight_decay))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * nn.functional.linear(features, self.weight, self.bias)


def _slowed(gradient: Tensor, values: Tensor, rate: float, weight_decay: float) -> Tensor:
    """The gradient to which SGD adds weight_decay * values for a sum of rate * (gradient + weight_decay * values)."""
    return rate * gradient - (1 - rate) * weight_decay * values.detach()


def adapt_head(task: HeadTask, settings: Settings) -> HeadResult:
    """Scales and class vectors, trained on class-balanced batches and written into weight and bias."""
    by_size = settings.smoothing
    smoothing = class_smoothing(task.counts, by_size.largest, by_size.smallest, by_size.shape).to(task.features.device)
    scaled = ScaledClassifier(task.head, settings.classifier_rate, settings.training.weight_decay)
    criterion = partial(smoothed_cross_entropy, smoothing=smoothing)
    history = task.train(scaled, settings.training, "class_balanced", criterion=criterion)
    with torch.no_grad():
        task.head.weight.copy_(scaled.scale[:, None] * scaled.weight)
        task.head.bias.copy_(scaled.scale * scaled.bias)
    return HeadResult(history)
