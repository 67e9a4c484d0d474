"""Batches with everything that can be done to images beyond crop and flip, in the order in which it is done.

RandAugment works on the pixels, cutout and mixing on normalised images. All draws of an epoch are made at its start, on
the CPU, from one explicit generator for each kind of augmentation; they are part of the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tailnas.batches.batches import Batches
from tailnas.retrain.cutout import Cutout
from tailnas.retrain.image_mixing import ImageMixing
from tailnas.retrain.reweighting import MixedLabels

if TYPE_CHECKING:
    from tailnas.retrain.rand_augment import RandAugment


class AugmentedBatches:
    """`batches`, each image changed by those of the augmentations that are given.

    generators: one on the CPU for each augmentation that is given, under its name: `rand_augment`, `cutout`,
    `image_mixing`.
    """

    def __init__(
        self,
        batches: Batches,
        generators: Mapping[str, torch.Generator],
        rand_augment: RandAugment | None = None,
        cutout: Cutout | None = None,
        image_mixing: ImageMixing | None = None,
    ) -> None:
        self.batches = batches
        self.rand_augment, self.cutout, self.image_mixing = rand_augment, cutout, image_mixing
        given = {"rand_augment": rand_augment, "cutout": cutout, "image_mixing": image_mixing}
        self._drawing = {name: (kind, generators[name]) for name, kind in given.items() if kind is not None}

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the data."""
        return self.batches.steps_per_epoch

    def epoch(self) -> Iterator[tuple[Tensor, Tensor | MixedLabels]]:
        """The next pass: images float32 (B, C, H, W), and labels int64 (B,) or, with mixing, pairs of them."""
        plan = self.batches.plan()
        shapes = [(len(plan.steps), self.batches.batch_size)]
        if plan.last is not None:
            shapes.append((1, self.batches.last_size))
        draws: dict[str, list[Tensor]] = {name: [] for name in self._drawing}
        for steps, batch_size in shapes:
            for name, (kind, generator) in self._drawing.items():
                drawn = kind.draw(steps, batch_size, self.batches.image_size, generator)
                draws[name] += drawn if name == "rand_augment" else drawn.to(self.batches.data.device)
        return (self._make(step, {name: values[i] for name, values in draws.items()}) for i, step in enumerate(plan))

    def _make(self, step: Tensor, draws: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | MixedLabels]:
        pixels, labels = self.batches.pixels(step)
        if self.rand_augment is not None:
            pixels = self.rand_augment(pixels, draws["rand_augment"])
        images = self.batches.normalised(pixels)
        if self.cutout is not None:
            images = self.cutout(images, draws["cutout"])
        if self.image_mixing is None:
            return images, labels
        drawn = draws["image_mixing"]
        mixed = MixedLabels(labels, labels[self.image_mixing.partners(drawn)], self.image_mixing.shares(drawn))
        return self.image_mixing(images, drawn), mixed

    def state_dict(self) -> dict[str, Any]:
        """State of the batches, and of the generator of each augmentation."""
        states = {name: generator.get_state() for name, (_, generator) in self._drawing.items()}
        return {"batches": self.batches.state_dict(), **states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.batches.load_state_dict(state["batches"])
        for name, (_, generator) in self._drawing.items():
            generator.set_state(state[name])
