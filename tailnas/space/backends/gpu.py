"""The search network on a GPU: all edges that leave a state side by side in the channels of a few operations.

What it buys: a GPU waits for launches, not for arithmetic. A cell takes about a third of the plain network's
operations: for each state one ReLU, one pooling of each kind, six depthwise convolutions, two grouped 1x1
convolutions and four BatchNorms for up to four edges. Nothing in it waits for the device or depends on a value, so
that a step can be captured as a CUDA graph. Chosen on GPUs in training mode; on a CPU it is only tested, maps with so
many channels leave the cache there.
"""

from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.genotype.primitives import NODES, PRIMITIVES
from tailnas.space.backends.description import OUTGOING, BatchStatistics, CellDescription, CellWeights, OutgoingNorms
from tailnas.space.cell import BYPASS, SearchCell, bypass, parted, shuffled

SKIP = PRIMITIVES.index("skip_connect")
POOLS = slice(PRIMITIVES.index("max_pool_3x3"), SKIP)
CONVOLUTIONS = slice(PRIMITIVES.index("sep_conv_3x3"), len(PRIMITIVES))


class GpuBackend:
    """Cells hand each other tensors (N, C, H, W)."""

    def __init__(self) -> None:
        self.descriptions: WeakKeyDictionary[SearchCell, CellDescription] = WeakKeyDictionary()

    def stem(self, stem: nn.Sequential, images: Tensor) -> Tensor:
        return stem(images)

    def cell(self, cell: SearchCell, older: Tensor, newer: Tensor, mixture: Tensor) -> Tensor:
        if cell not in self.descriptions:
            self.descriptions[cell] = CellDescription(cell)
        description = self.descriptions[cell]
        stacks = description.weights()
        states = [cell.preprocess_older(older), cell.preprocess_newer(newer)]
        sums: list[Tensor | None] = [None] * NODES
        passed: list[Tensor | None] = [None] * NODES
        statistics = BatchStatistics()
        for source, (part, edges) in enumerate(OUTGOING):
            if source >= 2:
                states.append(complete(sums[source - 2], passed[source - 2]))
            seen, rest = parted(states[source], cell.partial)
            stride = description.stride(source)
            outgoing = OutgoingEdges(stacks.of(part), description.norms[source], description.eps, statistics)
            mixtures = outgoing.mixtures(seen, torch.stack([mixture[edge.alpha_row] for edge in edges]), stride)
            for edge, arriving in zip(edges, mixtures.unbind(1), strict=True):
                add(sums, edge.node, arriving)
            if rest is not None:
                past = bypass(rest, stride)
                for edge in edges:
                    add(passed, edge.node, mixture[edge.alpha_row, BYPASS] * past)
        output = torch.cat([*states[2:], complete(sums[-1], passed[-1])], dim=1)
        statistics.update_running(output.numel() // output.shape[1])
        return output

    def pooled(self, output: Tensor) -> Tensor:
        return output.mean(dim=(2, 3))


def add(sums: list[Tensor | None], node: int, part: Tensor) -> None:
    total = sums[node]
    sums[node] = part if total is None else total + part


def complete(total: Tensor | None, passed: Tensor | None) -> Tensor:
    """A node's sum once all its edges have been added; `passed`: of the channels that bypass the primitives."""
    assert total is not None
    return total if passed is None else shuffled(total, passed)


class OutgoingEdges:
    """The E edges that leave one state."""

    def __init__(self, weights: CellWeights, norms: OutgoingNorms, eps: float, statistics: BatchStatistics) -> None:
        self.weights = weights
        self.norms = norms
        self.eps = eps
        self.statistics = statistics
        self.edges = len(weights.first_3x3)

    def mixtures(self, state: Tensor, mixture: Tensor, stride: int) -> Tensor:
        """What each edge adds to its node, (N, E, C, H / stride, W / stride), under mixture weights (E, 8)."""
        rectified = F.relu(state)
        convolved = self.convolutions(rectified, stride)
        mixed = (convolved * mixture[:, CONVOLUTIONS, None, None, None]).sum(2)
        pooled = self.pools(state, stride)
        mixed = mixed + (pooled * mixture[:, POOLS, None, None, None]).sum(2)
        skipped = state.unsqueeze(1) if stride == 1 else self.reductions(rectified)
        return mixed + skipped * mixture[:, SKIP, None, None, None]

    def convolutions(self, rectified: Tensor, stride: int) -> Tensor:
        """Separable and dilated convolutions of all edges, (N, E, 4, C, H, W)."""
        weights = self.weights
        repeated = rectified.repeat(1, self.edges, 1, 1)
        first = [depthwise(repeated, kernels, stride=stride) for kernels in (weights.first_3x3, weights.first_5x5)]
        hidden = F.relu(self.normalised(pointwise(first, weights.first_pointwise), self.norms.first))
        second = [
            depthwise(part.flatten(1, 2), kernels)
            for part, kernels in zip(hidden.unbind(2), (weights.second_3x3, weights.second_5x5), strict=True)
        ]
        dilated = [
            depthwise(repeated, kernels, stride=stride, dilation=2)
            for kernels in (weights.dilated_3x3, weights.dilated_5x5)
        ]
        return self.normalised(pointwise([*second, *dilated], weights.last_pointwise), self.norms.last)

    def pools(self, state: Tensor, stride: int) -> Tensor:
        """Normalised maxima and averages, the same for all edges: (N, 1, 2, C, H, W)."""
        maxima = F.max_pool2d(state, 3, stride, 1)
        averages = F.avg_pool2d(state, 3, stride, 1, count_include_pad=False)
        result, mean, variance = self.by_batch(torch.cat([maxima, averages], dim=1))
        for index, norms in enumerate((self.norms.max_pool, self.norms.average_pool)):
            half = slice(index * state.shape[1], (index + 1) * state.shape[1])
            self.statistics.add(norms, [mean[half]] * self.edges, [variance[half]] * self.edges)
        return result.unflatten(1, (1, 2, -1))

    def reductions(self, rectified: Tensor) -> Tensor:
        """Factorised reductions of all edges, (N, E, C, H / 2, W / 2)."""
        halves = [
            F.conv2d(part, weights.flatten(0, 1)[:, :, None, None], stride=2).unflatten(1, (self.edges, -1))
            for part, weights in (
                (rectified, self.weights.reduce_even),
                (rectified[:, :, 1:, 1:], self.weights.reduce_odd),
            )
        ]
        return self.normalised(torch.cat(halves, dim=2).unsqueeze(2), self.norms.reduce).squeeze(2)

    def normalised(self, maps: Tensor, norms: list[nn.BatchNorm2d]) -> Tensor:
        """BatchNorm of (N, E, primitives, C, H, W), each of `norms` for one edge and primitive."""
        result, mean, variance = self.by_batch(maps.flatten(1, 3))
        self.statistics.add(norms, mean.view(len(norms), -1).unbind(), variance.view(len(norms), -1).unbind())
        return result.unflatten(1, maps.shape[1:4])

    def by_batch(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised by the batch, with mean and biased variance."""
        result, mean, inverse_std = torch.ops.aten.native_batch_norm(maps, None, None, None, None, True, 0.0, self.eps)
        return result, mean.detach(), inverse_std.detach().square().reciprocal() - self.eps


def depthwise(maps: Tensor, kernels: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """Each channel of (N, E * C, H, W) with its own of the kernels (E, C, 1, k, k)."""
    padding = dilation * (kernels.shape[-1] - 1) // 2
    return F.conv2d(maps, kernels.flatten(0, 1), None, stride, padding, dilation, maps.shape[1])


def pointwise(maps: list[Tensor], weights: Tensor) -> Tensor:
    """1x1 convolutions of each edge and primitive, as one grouped convolution.

    P maps (N, E * C, H, W), one per primitive, and weights (E, P, C, C) to (N, E, P, C, H, W).
    """
    edges, primitives, channels, _ = weights.shape
    side_by_side = torch.stack([part.unflatten(1, (edges, channels)) for part in maps], dim=2).flatten(1, 3)
    output = F.conv2d(side_by_side, weights.flatten(0, 2)[:, :, None, None], groups=edges * primitives)
    return output.unflatten(1, (edges, primitives, channels))
