"""The DARTS search networks in plain PyTorch: one module per operation, one operation per candidate of an edge.

The yardstick of `benchmarks.search_step` and the float64 reference of tests/exactness. It follows the equations
(Liu et al., 1806.09055; Zhou et al., 1912.02413 for the two branches) and imports nothing from tailnas. What costs
time without meaning is left out (`none` is not computed), and nothing is rearranged for speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NODES = 4
EDGES = 14
PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
Alphas = dict[str, Tensor]


def relu_conv_bn(channels_in: int, channels_out: int, affine: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out, affine=affine),
    )


class FactorizedReduce(nn.Module):
    """Halves the map: two 1x1 convolutions of stride 2, the second on the map shifted by one pixel."""

    def __init__(self, channels_in: int, channels_out: int, affine: bool = False) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def separable(channels: int, kernel: int, stride: int, affine: bool, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1x1 convolution, BatchNorm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def operation(primitive: str, channels: int, stride: int, affine: bool = False, pool_norm: bool = True) -> nn.Module:
    """One candidate of an edge, mapping (N, C, H, W) to (N, C, H / stride, W / stride)."""
    after_pool = [nn.BatchNorm2d(channels, affine=False)] if pool_norm else []
    match primitive:
        case "max_pool_3x3":
            return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), *after_pool)
        case "avg_pool_3x3":
            return nn.Sequential(nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), *after_pool)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
        case "sep_conv_3x3":
            return nn.Sequential(*separable(channels, 3, stride, affine), *separable(channels, 3, 1, affine))
        case "sep_conv_5x5":
            return nn.Sequential(*separable(channels, 5, stride, affine), *separable(channels, 5, 1, affine))
        case "dil_conv_3x3":
            return nn.Sequential(*separable(channels, 3, stride, affine, dilation=2))
        case "dil_conv_5x5":
            return nn.Sequential(*separable(channels, 5, stride, affine, dilation=2))
    raise ValueError(f"no operation is called {primitive!r}")


class MixedEdge(nn.Module):
    """The weighted sum of all candidates of one edge; `none` adds nothing but stands in the softmax."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleDict(
            {primitive: operation(primitive, channels, stride) for primitive in PRIMITIVES if primitive != "none"}
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        terms = [weights[PRIMITIVES.index(name)] * module(x) for name, module in self.operations.items()]
        return sum(terms[1:], terms[0])


class Cell(nn.Module):
    """Four nodes over two inputs; node i sums the mixed edges from both inputs and the nodes before it.

    The output (N, 4 * channels, H, W) joins the nodes. `halves` says whether this cell reduces, `halved` whether
    the one before it did, so that the first input is still at twice the size.
    """

    def __init__(self, channels_0: int, channels_1: int, channels: int, halves: bool, halved: bool) -> None:
        super().__init__()
        self.input_0 = FactorizedReduce(channels_0, channels) if halved else relu_conv_bn(channels_0, channels)
        self.input_1 = relu_conv_bn(channels_1, channels)
        self.edges = nn.ModuleList(
            MixedEdge(channels, stride=2 if halves and source < 2 else 1)
            for node in range(NODES)
            for source in range(2 + node)
        )

    def forward(self, x_0: Tensor, x_1: Tensor, weights: Tensor) -> Tensor:
        states = [self.input_0(x_0), self.input_1(x_1)]
        edge = 0
        for _ in range(NODES):
            incoming = [self.edges[edge + source](state, weights[edge + source]) for source, state in enumerate(states)]
            edge += len(states)
            states.append(sum(incoming[1:], incoming[0]))
        return torch.cat(states[2:], dim=1)


class Backbone(nn.Module):
    """Stem and `cells` cells; reduction cells at `reductions` halve the map and double the channels."""

    def __init__(self, channels: int, cells: int, in_channels: int, reductions: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        self.reductions = frozenset(reductions)
        self.cells = nn.ModuleList()
        width_0 = width_1 = 3 * channels
        halved = False
        for index in range(cells):
            halves = index in self.reductions
            channels *= 2 if halves else 1
            self.cells.append(Cell(width_0, width_1, channels, halves, halved))
            width_0, width_1, halved = width_1, NODES * channels, halves
        self.width_0, self.width_1, self.channels, self.halved = width_0, width_1, channels, halved

    def forward(self, images: Tensor, weights: Alphas) -> tuple[Tensor, Tensor]:
        """The last two outputs, the older one first."""
        x_0 = x_1 = self.stem(images)
        for index, cell in enumerate(self.cells):
            x_0, x_1 = x_1, cell(x_0, x_1, weights["reduce" if index in self.reductions else "normal"])
        return x_0, x_1


def mixture_weights(alphas: Alphas) -> Alphas:
    return {name: alpha.softmax(dim=-1) for name, alpha in alphas.items()}


class SearchNetwork(nn.Module):
    """The search network: images (N, C, H, W) and alphas {"normal", "reduce"} of (14, 8) to logits (N, K)."""

    def __init__(
        self,
        channels: int,
        cells: int,
        num_classes: int,
        in_channels: int = 3,
        reductions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        reductions = (cells // 3, 2 * cells // 3) if reductions is None else reductions
        self.backbone = Backbone(channels, cells, in_channels, reductions)
        self.classifier = nn.Linear(self.backbone.width_1, num_classes)

    def forward(self, images: Tensor, alphas: Alphas) -> Tensor:
        return self.classifier(self.backbone(images, mixture_weights(alphas))[1].mean(dim=(2, 3)))


class DerivedCell(nn.Module):
    """A cell in which each node sums two operations, as (primitive, source) in the order of the nodes."""

    def __init__(
        self,
        edges: Sequence[tuple[str, int]],
        channels_0: int,
        channels_1: int,
        channels: int,
        halves: bool,
        halved: bool,
        pool_norm: bool,
    ) -> None:
        super().__init__()
        self.input_0 = (FactorizedReduce if halved else relu_conv_bn)(channels_0, channels, True)
        self.input_1 = relu_conv_bn(channels_1, channels, True)
        self.sources = [source for _, source in edges]
        self.operations = nn.ModuleList(
            operation(primitive, channels, 2 if halves and source < 2 else 1, True, pool_norm)
            for primitive, source in edges
        )

    def forward(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        states = [self.input_0(x_0), self.input_1(x_1)]
        for node in range(NODES):
            first, second = (self.operations[edge](states[self.sources[edge]]) for edge in (2 * node, 2 * node + 1))
            states.append(first + second)
        return torch.cat(states[2:], dim=1)


class DerivedNetwork(nn.Module):
    """What is trained after a search, without auxiliary head and drop-path: images (N, C, H, W) to logits (N, K)."""

    def __init__(
        self,
        normal: Sequence[tuple[str, int]],
        reduce: Sequence[tuple[str, int]],
        channels: int,
        cells: int,
        num_classes: int,
        in_channels: int = 3,
        pool_norm: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        self.cells = nn.ModuleList()
        width_0 = width_1 = 3 * channels
        halved = False
        for index in range(cells):
            halves = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if halves else 1
            edges = reduce if halves else normal
            self.cells.append(DerivedCell(edges, width_0, width_1, channels, halves, halved, pool_norm))
            width_0, width_1, halved = width_1, NODES * channels, halves
        self.classifier = nn.Linear(width_1, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x_0 = x_1 = self.stem(images)
        for cell in self.cells:
            x_0, x_1 = x_1, cell(x_0, x_1)
        return self.classifier(x_1.mean(dim=(2, 3)))


class TwoBranchNetwork(nn.Module):
    """A shared backbone, one searched cell and one classifier per branch, one bias.

    `branches` gives the two branches' own logits W_i f_i and W_c f_c; `mixed_log_probabilities` what the loss needs.
    """

    def __init__(self, channels: int, cells: int, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.backbone = Backbone(channels, cells, in_channels, (cells // 3, 2 * cells // 3))
        body = self.backbone
        self.instance_head, self.class_head = (
            Cell(body.width_0, body.width_1, body.channels, halves=False, halved=body.halved) for _ in range(2)
        )
        features = NODES * body.channels
        self.instance_classifier = nn.Linear(features, num_classes, bias=False)
        self.class_classifier = nn.Linear(features, num_classes, bias=False)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def branches(self, images_i: Tensor, images_c: Tensor, alphas: Alphas) -> tuple[Tensor, Tensor]:
        weights = mixture_weights(alphas)
        inputs_i = self.backbone(images_i, weights)
        inputs_c = self.backbone(images_c, weights)
        features_i = self.instance_head(*inputs_i, weights["instance_head"]).mean(dim=(2, 3))
        features_c = self.class_head(*inputs_c, weights["class_head"]).mean(dim=(2, 3))
        return self.instance_classifier(features_i), self.class_classifier(features_c)

    def forward(
        self, images_i: Tensor, images_c: Tensor, alphas: Alphas, mixing_ratio: float, mix: str = "logits"
    ) -> Tensor:
        """The log of the mixed class probabilities, (N, K).

        `logits` mixes before the softmax, z = 2 (mu W_i f_i + (1 - mu) W_c f_c) + b; `probabilities` after it,
        mu softmax(W_i f_i + b) + (1 - mu) softmax(W_c f_c + b).
        """
        logits_i, logits_c = self.branches(images_i, images_c, alphas)
        if mix == "logits":
            mixed = 2 * (mixing_ratio * logits_i + (1 - mixing_ratio) * logits_c) + self.bias
            return F.log_softmax(mixed, dim=1)
        mixed = mixing_ratio * F.softmax(logits_i + self.bias, dim=1) + (1 - mixing_ratio) * F.softmax(
            logits_c + self.bias, dim=1
        )
        return mixed.log()


def initial_alphas(names: Sequence[str], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Alphas:
    """1e-3 * N(0, 1) for each component, ready to be differentiated."""
    return {
        name: (1e-3 * torch.randn(EDGES, len(PRIMITIVES), generator=generator)).to(dtype).requires_grad_()
        for name in names
    }


@contextmanager
def without_running_statistics(network: nn.Module) -> Iterator[None]:
    """Training-mode forwards leave the running means and variances alone: only weight steps move them."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
