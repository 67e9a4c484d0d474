"""The search network with one branch, DARTS (arXiv 1806.09055).

    net = SuperNet(channels, cells, num_classes, in_channels=3, reductions=None, backend="auto")
    alphas = initial_alphas(("normal", "reduce"), generator)      # {"normal": (14, 8), "reduce": (14, 8)}, float32, CPU
    net(images, alphas) -> logits (N, K)                          # alphas=None: all primitives weigh the same
    net(images, MixtureWeights(...)) -> logits (N, K)             # weights that are not the softmax of alphas
    net.features(images, alphas) -> (N, D)                        # what the classifier sees
    net.components == ("normal", "reduce")                        # the alphas it takes
    with frozen_running_statistics(net): ...                      # training mode, running statistics stay as they are
    with seeded_initialisation(seed): net = SuperNet(...)         # reproducible weights, global generator untouched

Alphas are arguments, not parameters: `net.parameters()` are the weights of the lower level of the bilevel problem
alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tailnas.genotype.primitives import EDGES, PRIMITIVES
from tailnas.space.backends.choose import AUTOMATIC, BackendChoice
from tailnas.space.cell import BYPASS, SearchCell

STEM_MULTIPLIER = 3
CELL_MULTIPLIER = 4


def default_reductions(cells: int) -> tuple[int, int]:
    """Where DARTS puts its reduction cells: at a third and at two thirds of the depth."""
    return cells // 3, 2 * cells // 3


class Backbone(nn.Module):
    """Stem and search cells, without a classifier: images (N, in_channels, H, W) to the outputs of the last two
    cells.
    """

    def __init__(
        self,
        channels: int,
        cells: int,
        in_channels: int,
        reductions: Sequence[int] | None,
        backend: str,
        partial: int,
    ) -> None:
        super().__init__()
        self.backend = BackendChoice(backend)
        self.channels = channels
        self.partial = partial
        self.in_channels = in_channels
        self.reductions = tuple(default_reductions(cells) if reductions is None else reductions)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, STEM_MULTIPLIER * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(STEM_MULTIPLIER * channels),
        )
        self.cells = nn.ModuleList()
        older, newer, width, reduction_before = STEM_MULTIPLIER * channels, STEM_MULTIPLIER * channels, channels, False
        for index in range(cells):
            reduction = index in self.reductions
            width = 2 * width if reduction else width
            self.cells.append(
                SearchCell(older, newer, width, reduction=reduction, reduction_before=reduction_before, partial=partial)
            )
            older, newer, reduction_before = newer, CELL_MULTIPLIER * width, reduction
        self.width = width
        self.output_channels = (older, newer)
        self.ends_in_reduction = reduction_before

    components: tuple[str, ...] = ("normal", "reduce")
    own_head = False
    """Whether the last cell is a head, with alphas of its own."""

    def states(self, images: Tensor, weights: Mapping[str, Tensor]) -> tuple[Any, Any]:
        """Outputs of the last two cells, older first, as the backend has them. `weights`: softmax of the alphas."""
        backend = self.backend(images.device, training=self.training)
        older = newer = backend.stem(self.stem, images)
        for index, cell in enumerate(self.cells):
            assert isinstance(cell, SearchCell)
            head = self.own_head and index == len(self.cells) - 1
            component = "instance_head" if head else "reduce" if cell.reduction else "normal"
            older, newer = newer, backend.cell(cell, older, newer, self.mixture(weights[component]))
        return older, newer

    def mixture(self, weights: Tensor) -> Tensor:
        """A cell's weights (14, 8); with partial channels (14, 9), those that bypass the primitives with weight 1."""
        if self.partial == 1 or weights.shape[1] > BYPASS:
            return weights
        return torch.cat([weights, weights.new_ones(len(weights), 1)], dim=1)

    def pooled(self, state: Any) -> Tensor:
        """Mean over the map of a state, (N, D)."""
        return self.backend(next(self.parameters()).device, training=self.training).pooled(state)


class SuperNet(Backbone):
    """The DARTS search network: every edge of every cell computes the softmax-weighted mixture of all primitives.

    `channels`: width of the first cells, doubled by each reduction cell. `reductions`: indices of the reduction
    cells, by default cells // 3 and 2 * cells // 3. Image sides must be divisible by two once for each reduction.
    `backend`: how it is computed (backends/README.md); "plain" is the definition, "auto" the fastest way there is.
    `partial`: one over the share of the channels that primitives see. `own_head`: the last cell has alphas of its own,
    `instance_head`.
    """

    def __init__(
        self,
        channels: int,
        cells: int,
        num_classes: int,
        in_channels: int = 3,
        *,
        reductions: Sequence[int] | None = None,
        backend: str = AUTOMATIC,
        partial: int = 1,
        own_head: bool = False,
    ) -> None:
        super().__init__(channels, cells, in_channels, reductions, backend, partial)
        self.num_classes = num_classes
        self.own_head = own_head
        if own_head:
            if cells - 1 in self.reductions:
                raise ValueError(f"reductions: {self.reductions}; allowed: without the head cell {cells - 1}")
            self.components = ("normal", "reduce", "instance_head")
        self.classifier = nn.Linear(self.output_channels[1], num_classes)

    def features(self, images: Tensor, alphas: Mapping[str, Tensor] | None = None) -> Tensor:
        """Globally pooled output of the last cell, (N, D)."""
        weights = softmax_weights(alphas, self.components, self.classifier.weight)
        return self.pooled(self.states(images, weights)[1])

    def forward(self, images: Tensor, alphas: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits (N, K) of images (N, in_channels, H, W) under alphas {"normal": (14, 8), "reduce": (14, 8)}."""
        return self.classifier(self.features(images, alphas))


def pooled(maps: Tensor) -> Tensor:
    """Mean over the map: (N, C, H, W) to (N, C)."""
    return maps.mean(dim=(2, 3))


class MixtureWeights(dict[str, Tensor]):
    """Mixture weights (14, 8) of each component, where a network takes alphas: what a relaxation makes of them."""


def softmax_weights(alphas: Mapping[str, Tensor] | None, components: Sequence[str], like: Tensor) -> dict[str, Tensor]:
    """Mixture weights of every component, with the dtype and device of `like`; None stands for alphas of zero."""
    if isinstance(alphas, MixtureWeights):
        return {name: alphas[name].to(like) for name in components}
    if alphas is None:
        alphas = {name: like.new_zeros(EDGES, len(PRIMITIVES)) for name in components}
    return {name: torch.softmax(alphas[name], dim=-1).to(like) for name in components}


def initial_alphas(components: Sequence[str], generator: torch.Generator) -> dict[str, Tensor]:
    """Alphas (14, 8) of each component drawn as 1e-3 * N(0, 1), float32 on the CPU, in the order of `components`."""
    return {name: 1e-3 * torch.randn(EDGES, len(PRIMITIVES), generator=generator) for name in components}


_BATCH_NORMS: WeakKeyDictionary[nn.Module, list[nn.BatchNorm2d]] = WeakKeyDictionary()


def _batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """All of them, looked up once per module: a super-network has thousands of modules."""
    if module not in _BATCH_NORMS:
        _BATCH_NORMS[module] = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    return _BATCH_NORMS[module]


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Training-mode forwards normalise by their batch as ever but leave every BatchNorm's running statistics alone."""
    norms = [norm for norm in _batch_norms(module) if norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Networks built inside draw their initial weights (torch's defaults) from `seed`; the global generator is
    restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
