"""What a head adaptation is given and what it gives back.

A file of tailnas/heads offers its `Settings` and `adapt_head(task, settings) -> HeadResult`. One that changes more than
the head also has `prepare(network, data, seed, settings)`, called before the features are computed. One that does not
go on from the retrained head says so: `HEAD = "new"` where it makes another, `HEAD = "kept"` where it leaves it alone.
Probabilities of an adapted head assume classes of equal frequency, unless the file's `assumed_prior(counts, settings)`
tells other frequencies (K,), of any scale, after training on `counts` (K,) images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.adapt.features import FeatureBatches
from tailnas.adapt.settings import HeadTraining
from tailnas.foundation.seeding import torch_generator
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.imbalance.samplers import make_sampler
from tailnas.training.checkpoint import Row
from tailnas.training.loop import Loop
from tailnas.training.supervised import fit


@dataclass(frozen=True)
class Chooser:
    """Something to choose on that nothing was trained on: a head trained on the weight half, and the other half.

    smallest_class: images of the smallest class to choose on. train: trains that network; returns its class vectors
    (K, D), with features (N, D) and labels (N,) of the architecture half.
    """

    smallest_class: int
    train: Callable[[], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class HeadTask:
    """A linear head, changed in place, and the features (N, D) and labels (N,) of the images it was trained on."""

    head: nn.Linear
    features: Tensor
    labels: Tensor
    seed: int
    loop: Loop
    chooser: Chooser | None = None

    @property
    def num_classes(self) -> int:
        return self.head.out_features

    @property
    def counts(self) -> Tensor:
        """(K,) on the CPU."""
        return torch.bincount(self.labels.cpu(), minlength=self.num_classes)

    @torch.no_grad()
    def measure(self, head: nn.Module) -> dict[str, float]:
        """Balanced accuracy of `head` on the images themselves."""
        return {"balanced_accuracy": balanced_accuracy(self.labels, head(self.features).argmax(1), self.num_classes)}

    def train(
        self,
        head: nn.Module,
        training: HeadTraining,
        sampler: str,
        class_weights: Tensor | None = None,
        *,
        criterion: Callable[..., Tensor] = F.cross_entropy,
        after_step: Callable[[], None] = lambda: None,
    ) -> list[Row]:
        """Train `head` on batches of features with `criterion`, weighted by `class_weights` (K,).

        criterion: called as `torch.nn.functional.cross_entropy` is. after_step: called after each step of SGD.
        """
        generator = torch_generator(self.seed, "adapt", "sampler")
        drawing = make_sampler(sampler, self.labels.cpu(), self.num_classes, generator)
        keep_last = training.last_batch == "keep"
        batches = FeatureBatches(self.features, self.labels, drawing, training.batch_size, keep_last=keep_last)
        weight = None if class_weights is None else class_weights.to(self.features)

        def loss(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = head(features)
            return criterion(logits, labels, weight=weight), logits

        def start_epoch(epoch: int) -> None:
            drawing.set_epoch(epoch, training.epochs)

        return fit(
            head,
            loss,
            batches,
            training,
            self.loop,
            start_epoch=start_epoch,
            after_step=after_step,
            measure=lambda: self.measure(head),
        )


@dataclass(frozen=True)
class HeadResult:
    """history: one row per epoch, or one of epoch 0 where nothing is trained; choice: one row for each candidate."""

    history: list[Row]
    choice: list[Row] = field(default_factory=list)
