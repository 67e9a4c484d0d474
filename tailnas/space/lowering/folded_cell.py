"""The search cell on a CPU: one hand-written autograd function on channels-last maps, edges as tensors that fit the
cache.

What it buys: on large maps every BatchNorm behind a 1x1 convolution, with its mixture weight, is part of a matrix
product (folded_convolutions.py), on small ones all edges are computed together (grouped_convolutions.py); depthwise
convolutions and their gradients use the kernels that torch is good at (depthwise.py), ReLU and pooling are computed
once a source (pools.py), gradients only where they are asked for. Chosen on CPUs in training mode.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tailnas.space.lowering.batch_statistics import BatchStatistics
from tailnas.space.lowering.demand import gradients_wanted
from tailnas.space.lowering.description import OUTGOING, CellDescription, CellWeights
from tailnas.space.lowering.layout import rows
from tailnas.space.lowering.leaving import Leaving, Small
from tailnas.space.lowering.nodes import Nodes
from tailnas.space.primitives import NODES


def folded_cell(description: CellDescription, small: Small, older: Tensor, newer: Tensor, weights: Tensor) -> Tensor:
    """SearchCell.forward behind its preprocessing: two (N, C, H, W) and weights (14, 8) to (N, 4C, H', W').

    small: which cells group their edges (grouped_convolutions.py).
    """
    leaving: list[Leaving] = []
    output: Tensor = FoldedCell.apply(description, small, leaving, older, newer, weights, *description.weights())
    if description.tracks_statistics():
        record = BatchStatistics()
        for source, norms in zip(leaving, description.norms, strict=True):
            source.record(norms, record)
        record.update_running(rows(output).shape[0])
    return output


class FoldedCell(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        description: CellDescription,
        small: Small,
        leaving: list[Leaving],
        older: Tensor,
        newer: Tensor,
        weights: Tensor,
        *stacks: Tensor,
    ) -> Tensor:
        limit = small.training if any(ctx.needs_input_grad[-len(stacks) :]) else small.alphas_only
        step = description.stride(0)
        nodes = Nodes(NODES, older[:, :, ::step, ::step])
        states = [older, newer]
        for index, (part, edges) in enumerate(OUTGOING):
            if index >= 2:
                states.append(nodes.state(index - 2))
            source = Leaving.of(
                states[index], description.stride(index), CellWeights(*stacks).of(part), description.eps, limit
            )
            source.send(weights[[edge.row for edge in edges]], nodes, [edge.node for edge in edges])
            leaving.append(source)
        states.append(nodes.state(NODES - 1))
        ctx.leaving = leaving
        ctx.save_for_backward(weights, *stacks)
        return torch.cat(states[2:], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, *stacks = ctx.saved_tensors
        older_wanted, newer_wanted, mixture_wanted, *stacks_wanted = gradients_wanted(ctx)
        gradients = (
            rows(gradient).unflatten(1, (NODES, -1)).transpose(0, 1).clone(memory_format=torch.contiguous_format)
        )
        centred = torch.empty_like(gradients)
        mixture = torch.zeros_like(weights)
        into = CellWeights(*map(torch.empty_like, stacks)) if any(stacks_wanted) else None
        inputs: list[Tensor | None] = [None, None]
        for index, (part, edges) in reversed(list(enumerate(OUTGOING))):
            newest = edges[0].node
            if index > 0:  # the two inputs have the same newest node
                torch.sub(gradients[newest], gradients[newest].mean(0), out=centred[newest])
            positions = [edge.row for edge in edges]
            mixture[positions], state = ctx.leaving[index].backward(
                gradients[newest:],
                centred[newest:],
                weights[positions],
                CellWeights(*stacks).of(part),
                into.of(part) if into else None,
                state_wanted=(older_wanted, newer_wanted, True, True, True)[index],
                mixture_wanted=mixture_wanted,
            )
            if index < 2:
                inputs[index] = state
            elif state is not None:
                gradients[index - 2] += rows(state)
        return None, None, None, *inputs, mixture if mixture_wanted else None, *(into or (None,) * len(stacks))
