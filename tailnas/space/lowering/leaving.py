"""All that leaves one state of a cell, forward and backward, on channels-last maps: the arithmetic of folded_cell.py.

Lists run over edges and, within an edge, over primitives: sep_conv_3x3, sep_conv_5x5, then dil_conv_3x3, dil_conv_5x5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tailnas.space.lowering import pools
from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.depthwise import WeightGradient, convolve, image_sum, input_gradient, negated_means
from tailnas.space.lowering.description import CellWeights, SourceNorms
from tailnas.space.lowering.layout import maps, rows
from tailnas.space.lowering.normalised_product import Gradients, NormalisedProduct, covariances, products, summed
from tailnas.space.lowering.pools import NormalisedPool
from tailnas.space.primitives import PRIMITIVES

MAX, AVERAGE, SKIP = (PRIMITIVES.index(name) for name in ("max_pool_3x3", "avg_pool_3x3", "skip_connect"))
CONVOLUTIONS = slice(PRIMITIVES.index("sep_conv_3x3"), len(PRIMITIVES))


@dataclass
class Leaving:
    """The edges that leave `state`, up to their last linear map; kept from forward to backward."""

    state: Tensor
    stride: int
    rectified: Tensor
    max_indices: Tensor
    max_pool: NormalisedPool
    average_pool: NormalisedPool
    first_inputs: list[Tensor]
    first: NormalisedProduct
    hidden: list[Tensor]
    dilated_input: Tensor
    dilation: int
    last_inputs: list[Tensor]
    last: NormalisedProduct
    reduce_input: Tensor | None
    reduce: NormalisedProduct | None

    @staticmethod
    def of(state: Tensor, stride: int, weights: CellWeights, eps: float) -> "Leaving":
        images = len(state)
        rectified = F.relu(state)
        max_maps, max_indices = pools.max_pool(state, stride)
        sums = image_sum(rectified).unsqueeze(2)
        first_biases = both(
            negated_means(sums, weights.first_3x3, images, stride=stride),
            negated_means(sums, weights.first_5x5, images, stride=stride),
        )
        first_inputs, covariance = covariances(
            rows(convolve(rectified, kernel, bias, stride=stride))
            for kernel, bias in zip(alternating(weights.first_3x3, weights.first_5x5), first_biases, strict=True)
        )
        first = NormalisedProduct.of(weights.first_pointwise.flatten(0, 1), -first_biases, covariance, eps)
        hidden, hidden_sums = [], []
        for matrix, product in zip(first_inputs, first.folded(None), strict=True):
            hidden.append(maps(torch.mm(matrix, product.t()).relu_(), max_maps))
            hidden_sums.append(image_sum(hidden[-1]))
        dilated_input, dilation = without_gaps(rectified, stride)
        dilated_sums = image_sum(dilated_input).unsqueeze(2)
        last_biases = torch.stack(
            [
                negated_means(torch.stack(hidden_sums[0::2], dim=2), weights.second_3x3, images),
                negated_means(torch.stack(hidden_sums[1::2], dim=2), weights.second_5x5, images),
                negated_means(dilated_sums, weights.dilated_3x3, images, dilation=dilation),
                negated_means(dilated_sums, weights.dilated_5x5, images, dilation=dilation),
            ],
            dim=1,
        )

        def last_maps() -> Iterator[Tensor]:
            for edge, biases in enumerate(last_biases):
                yield convolve(hidden[2 * edge], weights.second_3x3[edge], biases[0])
                yield convolve(hidden[2 * edge + 1], weights.second_5x5[edge], biases[1])
                yield convolve(dilated_input, weights.dilated_3x3[edge], biases[2], dilation=dilation)
                yield convolve(dilated_input, weights.dilated_5x5[edge], biases[3], dilation=dilation)

        last_inputs, covariance = covariances(map(rows, last_maps()))
        last = NormalisedProduct.of(weights.last_pointwise.flatten(0, 1), -last_biases.flatten(0, 1), covariance, eps)
        reduce = reduce_input = None
        if stride == 2:
            reduce_input = torch.cat([rows(rectified[:, :, start::2, start::2]) for start in (0, 1)], dim=1)
            mean = reduce_input.sum(0).div_(len(reduce_input))
            _, covariance = covariances([reduce_input.sub_(mean)])
            halves = zip(weights.reduce_even, weights.reduce_odd, strict=True)
            reduce_weights = torch.stack([torch.block_diag(even, odd) for even, odd in halves])
            edges = len(reduce_weights)
            reduce = NormalisedProduct.of(reduce_weights, mean.expand(edges, -1), covariance.expand(edges, -1, -1), eps)
        return Leaving(
            state,
            stride,
            rectified,
            max_indices,
            NormalisedPool.of(max_maps, eps),
            NormalisedPool.of(pools.average_pool(state, stride), eps),
            first_inputs,
            first,
            hidden,
            dilated_input,
            dilation,
            last_inputs,
            last,
            reduce_input,
            reduce,
        )

    def send(self, weights: Tensor, nodes: "Nodes", targets: Sequence[int]) -> None:
        """Add the mixtures, weighted by (edges, 8), to the edges' target nodes."""
        folded = zip(self.last_inputs, self.last.folded(weights[:, CONVOLUTIONS].flatten()), strict=True)
        for position, (matrix, product) in enumerate(folded):
            nodes.add_product(targets[position // 4], matrix, product)
        if self.reduce is not None and self.reduce_input is not None:
            for node, product in zip(targets, self.reduce.folded(weights[:, SKIP]), strict=True):
                nodes.add_product(node, self.reduce_input, product)
        for node, mixture in zip(targets, weights.unbind(), strict=True):
            total = nodes.total(node)
            total.addcmul_(self.max_pool.centred, mixture[MAX] * self.max_pool.inverse)
            total.addcmul_(self.average_pool.centred, mixture[AVERAGE] * self.average_pool.inverse)
            if self.reduce is None:
                total.add_(rows(self.state), alpha=mixture[SKIP].item())

    def record(self, norms: SourceNorms, statistics: BatchStatistics) -> None:
        """Hand over the batch statistics of all BatchNorms."""
        for pool_norms, pool in ((norms.max_pool, self.max_pool), (norms.average_pool, self.average_pool)):
            statistics.add(pool_norms, [pool.mean] * len(pool_norms), [pool.variance] * len(pool_norms))
        statistics.add(norms.first, self.first.mean.unbind(), self.first.variance.unbind())
        statistics.add(norms.last, self.last.mean.unbind(), self.last.variance.unbind())
        if self.reduce is not None:
            statistics.add(norms.reduce, self.reduce.mean.unbind(), self.reduce.variance.unbind())

    def backward(
        self,
        gradients: list[Tensor],
        centred: list[Tensor],
        weights: Tensor,
        cell: CellWeights,
        into: CellWeights | None,
        *,
        state_wanted: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the mixture weights (edges, 8) and, where wanted, of the state; fills those of the cell's
        weights.

        `gradients`: of each edge's node, rows (N * H * W, C), `centred`: the same less their means over rows.
        """
        through = Backward(self, gradients, centred, weights, cell, into, state_wanted)
        mixture = torch.zeros_like(weights)
        mixture[:, CONVOLUTIONS] = through.convolutions().view(len(gradients), -1)
        if self.reduce is not None:
            mixture[:, SKIP] = through.reductions()
        else:
            mixture[:, SKIP] = through.identities()
        mixture[:, MAX], mixture[:, AVERAGE] = through.pools()
        return mixture, through.state_gradient()


class Backward:
    """One backward pass through what leaves a state. The methods return gradients of mixture weights, one an edge."""

    def __init__(
        self,
        leaving: Leaving,
        gradients: list[Tensor],
        centred: list[Tensor],
        weights: Tensor,
        cell: CellWeights,
        into: CellWeights | None,
        state_wanted: bool,
    ) -> None:
        self.leaving = leaving
        self.images = len(leaving.state)
        self.gradients = gradients
        self.centred = centred
        self.weights = weights
        self.cell = cell
        self.into = into
        self.state_wanted = state_wanted
        self.rectified: Tensor | None = None
        self.state: Tensor | None = None

    def convolutions(self) -> Tensor:
        leaving, cell, into = self.leaving, self.cell, self.into
        cross = [products(self.centred[position // 4], matrix) for position, matrix in enumerate(leaving.last_inputs)]
        scale = self.weights[:, CONVOLUTIONS].flatten()
        last = leaving.last.backward(scale, summed(cross), len(self.centred[0]))
        if into:
            into.last_pointwise.flatten(0, 1).copy_(last.weights)
        if not (into or self.state_wanted):
            return last.scale
        first_gradients: list[Tensor] = []
        first_cross: list[Tensor] = []
        dilated: Tensor | None = None
        dilated_weights = WeightGradient(leaving.dilated_input, dilation=leaving.dilation)
        for position, gradient in enumerate(through_products(self._repeated(4), leaving.last_inputs, last)):
            edge, kind = divmod(position, 4)
            images = maps(gradient, leaving.hidden[0])
            if kind < 2:
                kernel = (cell.second_3x3, cell.second_5x5)[kind][edge]
                hidden = leaving.hidden[2 * edge + kind]
                if into:
                    (into.second_3x3, into.second_5x5)[kind][edge] = WeightGradient(hidden)(images, kernel)
                upper = input_gradient(images, kernel, hidden)
                torch.ops.aten.threshold_backward.grad_input(upper, hidden, 0, grad_input=upper)
                first_gradients.append(rows(upper))
                first_gradients[-1].sub_(first_gradients[-1].sum(0).div_(len(first_gradients[-1])))
                first_cross.append(products(first_gradients[-1], leaving.first_inputs[len(first_cross)]))
                continue
            kernel = (cell.dilated_3x3, cell.dilated_5x5)[kind - 2][edge]
            if into:
                slot = (into.dilated_3x3, into.dilated_5x5)[kind - 2]
                slot[edge] = dilated_weights(images, kernel)
            if self.state_wanted:
                dilated = plus(
                    dilated, input_gradient(images, kernel, leaving.dilated_input, dilation=leaving.dilation)
                )
        self._first(first_gradients, summed(first_cross))
        if dilated is not None:
            if leaving.stride == 1:
                self.rectified = plus(self.rectified, dilated)
            else:
                assert self.rectified is not None
                self.rectified[:, :, ::2, ::2] += dilated
        return last.scale

    def _first(self, gradients: list[Tensor], cross: Tensor) -> None:
        """From the first BatchNorms' outputs on. `gradients` are centred, `cross` is their product with the inputs."""
        leaving, cell, into = self.leaving, self.cell, self.into
        first = leaving.first.backward(None, cross, len(gradients[0]))
        weight_gradient = WeightGradient(leaving.rectified, stride=leaving.stride)
        if into:
            into.first_pointwise.flatten(0, 1).copy_(first.weights)
        for position, gradient in enumerate(through_products(gradients, leaving.first_inputs, first)):
            edge, kind = divmod(position, 2)
            images = maps(gradient, leaving.hidden[0])
            kernel = (cell.first_3x3, cell.first_5x5)[kind][edge]
            if into:
                slot = (into.first_3x3, into.first_5x5)[kind]
                slot[edge] = weight_gradient(images, kernel)
            if self.state_wanted:
                part = input_gradient(images, kernel, leaving.rectified, stride=leaving.stride)
                self.rectified = plus(self.rectified, part)

    def reductions(self) -> Tensor:
        """Factorised reductions, all of the same input."""
        reduce, matrix = self.leaving.reduce, self.leaving.reduce_input
        assert reduce is not None and matrix is not None
        cross = [products(gradient, matrix) for gradient in self.centred]
        result = reduce.backward(self.weights[:, SKIP], summed(cross), len(matrix))
        channels = matrix.shape[1] // 2
        if self.into:
            half = len(self.into.reduce_even[0])
            self.into.reduce_even.copy_(result.weights[:, :half, :channels])
            self.into.reduce_odd.copy_(result.weights[:, half:, channels:])
        if self.state_wanted:
            assert self.rectified is not None
            total = torch.mm(matrix, result.through_variance.sum(0))
            for gradient, direct in zip(self.centred, result.direct, strict=True):
                total.addmm_(gradient, direct)
            for start, part in enumerate(total.split(channels, dim=1)):
                self.rectified[:, :, start::2, start::2] += maps(part.contiguous(), self.leaving.hidden[0])
        return result.scale

    def identities(self) -> Tensor:
        state = self.leaving.state.permute(0, 2, 3, 1).reshape(self.images, -1)
        if self.state_wanted:
            self.state = maps(self._mixed(self.gradients, SKIP), self.leaving.hidden[0])
        return torch.stack([torch.linalg.vecdot(g.view(self.images, -1), state).sum() for g in self.gradients])

    def pools(self) -> tuple[Tensor, Tensor]:
        leaving = self.leaving
        maxima = leaving.max_pool.scale_gradients(self.centred)
        averages = leaving.average_pool.scale_gradients(self.centred)
        if self.state_wanted:
            scales = self.weights[:, MAX : MAX + 1], self.weights[:, AVERAGE : AVERAGE + 1]
            gradient = leaving.max_pool.input_gradient(self._mixed(self.centred, MAX), scales[0], maxima)
            part = pools.max_pool_gradient(
                maps(gradient, leaving.hidden[0]), leaving.state, leaving.max_indices, leaving.stride
            )
            self.state = plus(self.state, part)
            gradient = leaving.average_pool.input_gradient(self._mixed(self.centred, AVERAGE), scales[1], averages)
            self.state += pools.average_pool_gradient(maps(gradient, leaving.hidden[0]), leaving.state, leaving.stride)
        return maxima.sum(1), averages.sum(1)

    def state_gradient(self) -> Tensor | None:
        if not self.state_wanted:
            return None
        assert self.state is not None and self.rectified is not None
        rectified = self.rectified
        torch.ops.aten.threshold_backward.grad_input(rectified, self.leaving.rectified, 0, grad_input=rectified)
        return self.state.add_(rectified)

    def _repeated(self, times: int) -> list[Tensor]:
        return [gradient for gradient in self.centred for _ in range(times)]

    def _mixed(self, gradients: list[Tensor], primitive: int) -> Tensor:
        """Sum over edges of the mixture weight of one primitive times the gradient."""
        weights = self.weights[:, primitive].tolist()
        mixed = gradients[0] * weights[0]
        for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
            mixed.add_(gradient, alpha=weight)
        return mixed


class Nodes:
    """The four intermediate nodes, summed up from what arrives."""

    def __init__(self, count: int, like: Tensor) -> None:
        """`like`: (N, C, H, W) as the nodes will be."""
        self.like = like
        self.sums: list[Tensor | None] = [None] * count

    def total(self, node: int) -> Tensor:
        total = self.sums[node]
        assert total is not None
        return total

    def add_product(self, node: int, matrix: Tensor, weights: Tensor) -> None:
        """Add matrix @ weights^T."""
        total = self.sums[node]
        self.sums[node] = matrix @ weights.t() if total is None else total.addmm_(matrix, weights.t())

    def state(self, node: int) -> Tensor:
        return maps(self.total(node), self.like)


def through_products(centred: list[Tensor], inputs: list[Tensor], result: Gradients) -> Iterator[Tensor]:
    """Gradients of the inputs of normalised products, one after the other, from the outputs' centred gradients."""
    for gradient, matrix, direct, through_variance in zip(
        centred, inputs, result.direct, result.through_variance, strict=True
    ):
        yield torch.mm(gradient, direct).addmm_(matrix, through_variance)


def alternating(threes: Tensor, fives: Tensor) -> Iterator[Tensor]:
    """Kernels of the 3x3 and the 5x5 primitive, edge by edge."""
    for pair in zip(threes, fives, strict=True):
        yield from pair


def both(threes: Tensor, fives: Tensor) -> Tensor:
    """What belongs to the 3x3 and the 5x5 primitive of E edges, (E, ...) twice, edge by edge: (2E, ...)."""
    return torch.stack([threes, fives], dim=1).flatten(0, 1)


def without_gaps(rectified: Tensor, stride: int) -> tuple[Tensor, int]:
    """Input and dilation of a convolution with dilation 2. At stride 2 it reads every other pixel only, and is the
    ordinary convolution of those.
    """
    if stride == 1:
        return rectified, 2
    return rectified[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), 1


def plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)
