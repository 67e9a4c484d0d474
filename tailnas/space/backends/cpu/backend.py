"""The search network in training on a CPU: channels-last from stem to classifier, one autograd function per cell.

What it buys: at C16 L8, batch 32, 32x32 a first-order step takes a third of the time and memory of the plain network.
On large maps every BatchNorm behind a 1x1 convolution, with its mixture weight, is part of a matrix product
(convolutions_by_edge.py), on small ones all edges are computed together (convolutions_side_by_side.py); depthwise
convolutions and their gradients use the kernels that torch is good at (../../depthwise.py), ReLU and pooling are
computed once per state (outgoing_edges.py), gradients only where they are asked for. Chosen on CPUs in training mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tailnas.genotype.primitives import NODES
from tailnas.space.backends.cpu.batch_norm import batch_norm
from tailnas.space.backends.cpu.maps import NodeSums, as_maps, as_rows
from tailnas.space.backends.cpu.outgoing_edges import BackwardPass, OutgoingEdges
from tailnas.space.backends.description import OUTGOING, BatchStatistics, CellDescription, CellWeights
from tailnas.space.cell import BYPASS, SearchCell, bypass, parted, shuffled
from tailnas.space.operations import FactorizedReduce, ReLUConvBN


class SideBySideLimits(NamedTuple):
    """Numbers in the maps of one edge up to which all edges that leave a state are computed side by side.

    `training` where gradients of the weights are asked for, `alphas_only` where they are not.
    """

    training: int
    alphas_only: int


MEASURED_LIMITS = SideBySideLimits(training=200_000, alphas_only=300_000)
"""Where side by side is faster than edge by edge.

Milliseconds of a cell's forward and backward, batch 32, two threads, edge by edge and side by side. For alphas alone:
C16 32x32 (524,288 numbers per map) 179, 197; C32 16x16 (262,144) 123, 110; C64 8x8 (131,072) 100, 69. With the weights:
223, 313; 154, 174; 130, 112.
"""


@dataclass
class CellOutput:
    """A cell's output (N, C, H, W), channels-last, and what both cells after it start with: its ReLU."""

    maps: Tensor
    rectified: Tensor

    @staticmethod
    def of(maps: Tensor) -> "CellOutput":
        return CellOutput(maps, F.relu(maps))


class CpuBackend:
    def __init__(self, limits: SideBySideLimits = MEASURED_LIMITS) -> None:
        self.limits = limits
        self.descriptions: WeakKeyDictionary[SearchCell, CellDescription] = WeakKeyDictionary()

    def stem(self, stem: nn.Sequential, images: Tensor) -> CellOutput:
        convolution, norm = stem
        assert isinstance(norm, nn.BatchNorm2d)
        output = convolution(images.contiguous(memory_format=torch.channels_last))
        return CellOutput.of(as_maps(batch_norm(as_rows(output), norm), output))

    def cell(self, cell: SearchCell, older: CellOutput, newer: CellOutput, mixture: Tensor) -> CellOutput:
        if cell not in self.descriptions:
            self.descriptions[cell] = CellDescription(cell)
        inputs = preprocess(cell.preprocess_older, older.rectified), preprocess(cell.preprocess_newer, newer.rectified)
        description = self.descriptions[cell]
        if cell.partial > 1:
            return CellOutput.of(partial_cell(description, self.limits, cell.partial, *inputs, mixture))
        return CellOutput.of(mixed_cell(description, self.limits, *inputs, mixture))

    def pooled(self, output: CellOutput) -> Tensor:
        return as_rows(output.maps).view(len(output.maps), -1, output.maps.shape[1]).mean(dim=1)


def preprocess(layer: ReLUConvBN | FactorizedReduce, rectified: Tensor) -> Tensor:
    """A cell's input layer behind its ReLU."""
    if isinstance(layer, ReLUConvBN):
        rows = F.linear(as_rows(rectified), layer.conv.weight.flatten(1))
        return as_maps(batch_norm(rows, layer.norm), rectified)
    pixels = EverySecondPixel.apply(rectified)
    halves = [
        F.linear(part, conv.weight.flatten(1)) for part, conv in zip(pixels, (layer.even, layer.odd), strict=True)
    ]
    return as_maps(batch_norm(torch.cat(halves, dim=1), layer.norm), rectified[:, :, ::2, ::2])


class EverySecondPixel(torch.autograd.Function):
    """Of channels-last (N, C, H, W) the pixels at even rows and columns and those at odd ones, as rows.

    Autograd's own gradient of such slices is not channels-last, and all that it meets becomes slow.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = maps.shape
        return as_rows(maps[:, :, ::2, ::2]), as_rows(maps[:, :, 1::2, 1::2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape
        whole = gradients[0].new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)
        for start, gradient in enumerate(gradients):
            part = whole[:, :, start::2, start::2]
            part.copy_(as_maps(gradient, part))
        return whole


def mixed_cell(
    description: CellDescription, limits: SideBySideLimits, older: Tensor, newer: Tensor, mixture: Tensor
) -> Tensor:
    """SearchCell.forward behind its preprocessing: two (N, C, H, W) and weights (14, 8) to (N, 4C, H', W')."""
    by_state: list[OutgoingEdges] = []
    output: Tensor = MixedCell.apply(description, limits, by_state, older, newer, mixture, *description.weights())
    update_statistics(description, by_state, len(as_rows(output)))
    return output


def partial_cell(
    description: CellDescription,
    limits: SideBySideLimits,
    partial: int,
    older: Tensor,
    newer: Tensor,
    mixture: Tensor,
) -> Tensor:
    """The same of partial channels, with weights (14, 9): one autograd function per state, and torch's for the rest."""
    by_state: list[OutgoingEdges] = []
    stacks = description.weights()
    states = [older, newer]
    sums: list[Tensor | None] = [None] * NODES
    passed: list[Tensor | None] = [None] * NODES

    def node(index: int) -> Tensor:
        step = description.stride(0)
        total, past = sums[index], passed[index]
        assert total is not None and past is not None
        return as_maps(shuffled(total, past), older[:, :, ::step, ::step])

    for source, (part, edges) in enumerate(OUTGOING):
        if source >= 2:
            states.append(node(source - 2))
        seen, rest = parted(states[source], partial)
        assert rest is not None
        weights = mixture[[edge.alpha_row for edge in edges]]
        seen = seen.contiguous(memory_format=torch.channels_last)
        mixed = MixedState.apply(
            description, limits, by_state, source, seen, weights[:, :BYPASS].contiguous(), *stacks.of(part)
        )
        past = as_rows(bypass(rest, description.stride(source)))
        for edge, arriving, weight in zip(edges, mixed.unbind(), weights[:, BYPASS].unbind(), strict=True):
            sums[edge.node] = added(sums[edge.node], arriving)
            passed[edge.node] = added(passed[edge.node], weight * past)
    output = torch.cat([*states[2:], node(NODES - 1)], dim=1)
    update_statistics(description, by_state, len(as_rows(output)))
    return output


def added(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def update_statistics(description: CellDescription, by_state: Sequence[OutgoingEdges], count: int) -> None:
    """Move the running statistics of a cell's BatchNorms after a batch of `count` pixels, unless they are frozen."""
    if description.tracks_statistics():
        statistics = BatchStatistics()
        for outgoing, norms in zip(by_state, description.norms, strict=True):
            outgoing.collect(statistics, norms)
        statistics.update_running(count)


class MixedState(torch.autograd.Function):
    """What all edges that leave one state add to their nodes, as rows (E, N * H * W, C)."""

    @staticmethod
    def forward(
        ctx: Any,
        description: CellDescription,
        limits: SideBySideLimits,
        by_state: list[OutgoingEdges],
        source: int,
        state: Tensor,
        mixture: Tensor,
        *stacks: Tensor,
    ) -> Tensor:
        """The state's edges are appended to `by_state`."""
        limit = limits.training if any(ctx.needs_input_grad[-len(stacks) :]) else limits.alphas_only
        stride, edges = description.stride(source), len(mixture)
        outgoing = OutgoingEdges.of(state, stride, CellWeights(*stacks), description.eps, limit)
        sums = NodeSums(edges, state[:, :, ::stride, ::stride])
        outgoing.add_to(sums, range(edges), mixture)
        by_state.append(outgoing)
        ctx.outgoing = outgoing
        ctx.save_for_backward(mixture, *stacks)
        return torch.stack([sums.rows(edge) for edge in range(edges)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mixture, *stacks = ctx.saved_tensors
        state_needed, mixture_needed, *stacks_needed = needed_gradients(ctx)
        gradient = gradient.contiguous()
        weight_gradients = CellWeights(*map(torch.empty_like, stacks)) if any(stacks_needed) else None
        mixture_gradient, state_gradient = BackwardPass(
            ctx.outgoing,
            gradient,
            gradient - gradient.mean(1, keepdim=True),
            mixture,
            CellWeights(*stacks),
            weight_gradients,
            state_needed=state_needed,
            mixture_needed=mixture_needed,
        ).run()
        return (
            *(None,) * 4,
            state_gradient,
            mixture_gradient if mixture_needed else None,
            *(weight_gradients or (None,) * len(stacks)),
        )


class MixedCell(torch.autograd.Function):
    """All edges of a cell, state by state; backward in the opposite order."""

    @staticmethod
    def forward(
        ctx: Any,
        description: CellDescription,
        limits: SideBySideLimits,
        by_state: list[OutgoingEdges],
        older: Tensor,
        newer: Tensor,
        mixture: Tensor,
        *stacks: Tensor,
    ) -> Tensor:
        """`by_state` is filled."""
        limit = limits.training if any(ctx.needs_input_grad[-len(stacks) :]) else limits.alphas_only
        step = description.stride(0)
        sums = NodeSums(NODES, older[:, :, ::step, ::step])
        states = [older, newer]
        for source, (part, edges) in enumerate(OUTGOING):
            if source >= 2:
                states.append(sums.maps(source - 2))
            outgoing = OutgoingEdges.of(
                states[source], description.stride(source), CellWeights(*stacks).of(part), description.eps, limit
            )
            outgoing.add_to(sums, [edge.node for edge in edges], mixture[[edge.alpha_row for edge in edges]])
            by_state.append(outgoing)
        states.append(sums.maps(NODES - 1))
        ctx.by_state = by_state
        ctx.save_for_backward(mixture, *stacks)
        return torch.cat(states[2:], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mixture, *stacks = ctx.saved_tensors
        older_needed, newer_needed, mixture_needed, *stacks_needed = needed_gradients(ctx)
        gradients = (
            as_rows(gradient).unflatten(1, (NODES, -1)).transpose(0, 1).clone(memory_format=torch.contiguous_format)
        )
        centred = torch.empty_like(gradients)
        mixture_gradient = torch.zeros_like(mixture)
        weight_gradients = CellWeights(*map(torch.empty_like, stacks)) if any(stacks_needed) else None
        input_gradients: list[Tensor | None] = [None, None]
        for source, (part, edges) in reversed(list(enumerate(OUTGOING))):
            first_node = edges[0].node
            if source > 0:  # both inputs' edges enter the same nodes
                torch.sub(gradients[first_node], gradients[first_node].mean(0), out=centred[first_node])
            alpha_rows = [edge.alpha_row for edge in edges]
            mixture_gradient[alpha_rows], state_gradient = BackwardPass(
                ctx.by_state[source],
                gradients[first_node:],
                centred[first_node:],
                mixture[alpha_rows],
                CellWeights(*stacks).of(part),
                weight_gradients.of(part) if weight_gradients else None,
                state_needed=(older_needed, newer_needed, True, True, True)[source],
                mixture_needed=mixture_needed,
            ).run()
            if source < 2:
                input_gradients[source] = state_gradient
            elif state_gradient is not None:
                gradients[source - 2] += as_rows(state_gradient)
        return (
            None,
            None,
            None,
            *input_gradients,
            mixture_gradient if mixture_needed else None,
            *(weight_gradients or (None,) * len(stacks)),
        )


def needed_gradients(ctx: Any) -> list[bool]:
    """Which tensor inputs of a hand-written autograd function the running backward pass needs gradients for.

    One flag for each; tensors come last among the inputs. `ctx.needs_input_grad` tells what could be asked for when the
    forward ran, and is the answer for leaves. torch.autograd.grad(loss, alphas) asks for less: weights that require
    gradients get none, and computing theirs is half of a backward pass.
    """
    could_be_needed = ctx.needs_input_grad[-len(ctx.next_functions) :]
    return [
        needed and node is not None and _will_run(node)
        for needed, (node, _) in zip(could_be_needed, ctx.next_functions, strict=True)
    ]


def _will_run(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf: the engine does not tell
        return True
