"""Samplers: which images make up the batches of an epoch.

All draws are made on the CPU from an explicit generator, an epoch at a time, so that every device sees the same ones.
`square_root` and `progressively_balanced` are those of Kang et al. 2020 (Decoupling), `reversed` is that of BBN
(Zhou et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

State = dict[str, Tensor]


def reversed_class_probabilities(counts: Sequence[int] | Tensor) -> Tensor:
    """P(class c) = (n_max / n_c) / sum_j (n_max / n_j), float64 (K,), of images per class (K,) (BBN, section 3.3)."""
    return class_probabilities("reversed", counts)


_CLASS_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "instance": lambda counts: counts,
    "class_balanced": torch.ones_like,
    "square_root": torch.sqrt,
    "reversed": lambda counts: counts.max() / counts,
}


def class_probabilities(kind: str | float, counts: Sequence[int] | Tensor) -> Tensor:
    """Probability that a draw of the sampler `kind` is of each class, float64 (K,).

    kind: a name, or an exponent q of P(class c) proportional to n_c^q. counts: images of each class (K,). Raises
    ValueError for an unknown kind or a class without images.
    """
    if isinstance(kind, str) and kind not in _CLASS_WEIGHTS:
        raise ValueError(f"sampler: {kind!r}; allowed: {', '.join(_CLASS_WEIGHTS)}")
    sizes = torch.as_tensor(counts).to("cpu", torch.float64)
    if sizes.ndim != 1 or not len(sizes) or not bool(torch.isfinite(sizes).all()) or bool((sizes < 1).any()):
        raise ValueError(f"counts: {sizes.tolist()}; allowed: at least one image in each class")
    weights = _CLASS_WEIGHTS[kind](sizes) if isinstance(kind, str) else sizes.pow(kind)
    return weights / weights.sum()


def frequencies(values: Tensor) -> tuple[float, ...]:
    """Numbers (K,) of any scale as frequencies that sum to 1, none below 1e-9 of the largest, computed in float64."""
    exact = values.detach().to("cpu", torch.float64)
    exact = (exact / exact.max()).clamp_min(1e-9)
    return tuple((exact / exact.sum()).tolist())


class Sampler(Protocol):
    """Draws rows of a data set."""

    images_per_epoch: int
    """Images that make up one pass."""

    def epoch(self, steps: int, batch_size: int) -> Tensor:
        """The next `steps` batches: int64 (steps, batch_size) on the CPU."""

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Tell the sampler how far training is; `epoch` counts from 0."""

    def state_dict(self) -> State:
        """Everything the next draws depend on."""

    def load_state_dict(self, state: State) -> None:
        """Go on where `state` was taken."""


class InstanceSampler:
    """Every image alike: a new permutation for each pass, of which the last, partial batch is dropped.

    A pass that an epoch leaves unfinished is continued by the next epoch.
    """

    def __init__(self, labels: ArrayLike | Tensor, num_classes: int, generator: torch.Generator) -> None:
        self.images_per_epoch = len(_checked_labels(labels, num_classes))
        self.generator = generator
        self.pending = torch.empty(0, dtype=torch.int64)

    def epoch(self, steps: int, batch_size: int) -> Tensor:
        _check_request(steps, batch_size)
        if batch_size > self.images_per_epoch:
            raise ValueError(f"batch_size: {batch_size}; allowed: 1 to {self.images_per_epoch}, the images there are")
        batches: list[Tensor] = []
        missing = steps
        while missing:
            if len(self.pending) < batch_size:
                self.pending = torch.randperm(self.images_per_epoch, generator=self.generator)
            taken = min(missing, len(self.pending) // batch_size)
            batches.append(self.pending[: taken * batch_size].view(taken, batch_size))
            self.pending = self.pending[taken * batch_size :]
            missing -= taken
        return torch.cat(batches)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Of no effect."""

    def state_dict(self) -> State:
        return {"generator": self.generator.get_state(), "pending": self.pending.clone()}

    def load_state_dict(self, state: State) -> None:
        self.generator.set_state(state["generator"])
        self.pending = state["pending"].clone()


class ClassSampler:
    """Draws a class by `probabilities`, then an image of it uniformly, with replacement."""

    def __init__(
        self,
        labels: ArrayLike | Tensor,
        num_classes: int,
        generator: torch.Generator,
        kind: str | float = "class_balanced",
    ) -> None:
        known = _checked_labels(labels, num_classes)
        self.generator = generator
        self.images_per_epoch = len(known)
        self.counts = torch.bincount(known, minlength=num_classes)
        self.probabilities = class_probabilities(kind, self.counts)
        self._by_class = torch.argsort(known, stable=True)
        self._first = self.counts.cumsum(0) - self.counts

    def epoch(self, steps: int, batch_size: int) -> Tensor:
        _check_request(steps, batch_size)
        draws = steps * batch_size
        classes = torch.multinomial(self.probabilities, draws, replacement=True, generator=self.generator)
        sizes = self.counts[classes]
        position = (torch.rand(draws, dtype=torch.float64, generator=self.generator) * sizes).long()
        rows = self._by_class[self._first[classes] + torch.minimum(position, sizes - 1)]
        return rows.view(steps, batch_size)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Of no effect."""

    def state_dict(self) -> State:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: State) -> None:
        self.generator.set_state(state["generator"])


class ProgressivelyBalancedSampler(ClassSampler):
    """Goes from instance-balanced to class-balanced: (1 - t) P_instance + t P_class, t = epoch / epochs."""

    def __init__(self, labels: ArrayLike | Tensor, num_classes: int, generator: torch.Generator) -> None:
        super().__init__(labels, num_classes, generator)
        self.set_epoch(0, 1)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        if not 0 <= epoch <= epochs or epochs < 1:
            raise ValueError(f"epoch: {epoch} of {epochs}; allowed: 0 to {epochs}")
        t = epoch / epochs
        start, end = (class_probabilities(kind, self.counts) for kind in ("instance", "class_balanced"))
        self.probabilities = (1 - t) * start + t * end

    def state_dict(self) -> State:
        return {**super().state_dict(), "probabilities": self.probabilities.clone()}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.probabilities = state["probabilities"].clone()


class ClassAwareSampler:
    """Classes in turn, GROUP images of one at a time; max(n_c) K images make up a pass.

    The classes come in one random order after the other, and so do the images of each class, so that a rare class is
    gone through again and again. What the code of Kang et al. 2020 (1910.09217) retrains classifiers with.
    """

    GROUP = 4

    def __init__(self, labels: ArrayLike | Tensor, num_classes: int, generator: torch.Generator) -> None:
        known = _checked_labels(labels, num_classes)
        counts = torch.bincount(known, minlength=num_classes)
        class_probabilities("class_balanced", counts)  # refuses a class without images
        self.generator = generator
        self.images_per_epoch = int(counts.max()) * num_classes
        self._cycles = [torch.arange(num_classes), *torch.argsort(known, stable=True).split(counts.tolist())]
        """The classes, then the images of each."""
        self._pending = [torch.empty(0, dtype=torch.int64)] * len(self._cycles)

    def epoch(self, steps: int, batch_size: int) -> Tensor:
        _check_request(steps, batch_size)
        draws = steps * batch_size
        classes = self._next(0, -(-draws // self.GROUP))
        rows = torch.empty(len(classes), self.GROUP, dtype=torch.int64)
        for c in range(len(self._cycles) - 1):
            places = classes == c
            rows[places] = self._next(c + 1, self.GROUP * int(places.sum())).view(-1, self.GROUP)
        return rows.flatten()[:draws].view(steps, batch_size)

    def _next(self, cycle: int, count: int) -> Tensor:
        """The next `count` members of a cycle, which is shuffled anew whenever it has been gone through."""
        members, parts = self._cycles[cycle], [self._pending[cycle]]
        for _ in range(-(-(count - len(parts[0])) // len(members))):
            parts.append(members[torch.randperm(len(members), generator=self.generator)])
        drawn = torch.cat(parts)
        self._pending[cycle] = drawn[count:]
        return drawn[:count]

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Of no effect."""

    def state_dict(self) -> State:
        pending = {f"pending.{cycle}": values.clone() for cycle, values in enumerate(self._pending)}
        return {"generator": self.generator.get_state(), **pending}

    def load_state_dict(self, state: State) -> None:
        self.generator.set_state(state["generator"])
        self._pending = [state[f"pending.{cycle}"].clone() for cycle in range(len(self._cycles))]


def _of_kind(kind: str) -> Callable[[ArrayLike | Tensor, int, torch.Generator], Sampler]:
    return lambda labels, num_classes, generator: ClassSampler(labels, num_classes, generator, kind)


SAMPLERS: dict[str, Callable[[ArrayLike | Tensor, int, torch.Generator], Sampler]] = {
    "instance": InstanceSampler,
    "class_balanced": _of_kind("class_balanced"),
    "square_root": _of_kind("square_root"),
    "reversed": _of_kind("reversed"),
    "progressively_balanced": ProgressivelyBalancedSampler,
    "class_aware": ClassAwareSampler,
}


def make_sampler(
    name: str | float, labels: ArrayLike | Tensor, num_classes: int, generator: torch.Generator
) -> Sampler:
    """The sampler `name` over images with these labels (N,); `generator` lives on the CPU and is the sampler's own.

    An exponent q in place of a name draws classes with probability proportional to n_c^q, with replacement.
    """
    if not isinstance(name, str):
        return ClassSampler(labels, num_classes, generator, name)
    if name not in SAMPLERS:
        raise ValueError(f"sampler: {name!r}; allowed: {', '.join(SAMPLERS)}")
    return SAMPLERS[name](labels, num_classes, generator)


def _checked_labels(labels: ArrayLike | Tensor, num_classes: int) -> Tensor:
    known = torch.as_tensor(labels).cpu()
    if known.ndim != 1 or not len(known) or known.is_floating_point() or known.dtype == torch.bool:
        raise ValueError(f"labels: {known.dtype} {tuple(known.shape)}; allowed: integers (N,), N >= 1")
    if int(known.min()) < 0 or int(known.max()) >= num_classes:
        raise ValueError(f"labels: {int(known.min())} to {int(known.max())}; allowed: 0 to {num_classes - 1}")
    return known.long()


def _check_request(steps: int, batch_size: int) -> None:
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps, batch_size: {steps}, {batch_size}; allowed: from 1")
