"""Gradients of the validation loss for the alphas, first and second order (DARTS, 1806.09055, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Loss = Callable[[], Tensor]
"""Scalar loss under the present weights and alphas."""


def first_order(
    validation_loss: Loss, alphas: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Gradients of L_val(w, alpha) for the alphas alone, and the detached loss.

    `weights` are kept out of the graph, so that nothing is stored or computed for their gradients.
    """
    with constant(weights):
        loss = validation_loss()
        return list(torch.autograd.grad(loss, alphas)), loss.detach()


def second_order(
    train_loss: Loss,
    validation_loss: Loss,
    alphas: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    learning_rate: Tensor | float,
    velocities: Sequence[Tensor | None],
    momentum: float,
    weight_decay: float,
    scale: float = 0.01,
) -> tuple[list[Tensor], Tensor]:
    """Gradients of L_val(w'(alpha), alpha) for the alphas, and the detached loss L_val(w').

    w' = w - xi (momentum v + grad_w L_train + weight_decay w) is one step of SGD; the implicit term is a central
    difference of grad_alpha L_train at w +- eps grad_w' L_val(w'), eps = scale / ||grad_w' L_val(w')|| (equation 8).
    The weights move in place and are put back bit by bit: no second network is built.

    learning_rate: xi. velocities: momentum buffer of each weight, None before the first step.
    """
    weights = list(weights)
    xi = torch.as_tensor(learning_rate, dtype=weights[0].dtype, device=weights[0].device)
    kept = [weight.detach().clone() for weight in weights]

    gradients = torch.autograd.grad(train_loss(), weights)
    with torch.no_grad():
        step = torch._foreach_add(gradients, kept, alpha=weight_decay)
        with_velocity = [(i, v) for i, v in enumerate(velocities) if v is not None]
        if with_velocity:
            torch._foreach_add_([step[i] for i, _ in with_velocity], [v for _, v in with_velocity], alpha=momentum)
        torch._foreach_mul_(step, -xi)
        torch._foreach_add_(weights, step)
        del step, gradients

    loss = validation_loss()
    both = torch.autograd.grad(loss, [*alphas, *weights])
    loss = loss.detach()  # else its graph, and the maps in it, would outlive the next forward
    direct, direction = both[: len(alphas)], both[len(alphas) :]
    with torch.no_grad():
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))
        eps = scale / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        torch._foreach_mul_(direction, eps)
        torch._foreach_copy_(weights, kept)
        torch._foreach_add_(weights, direction)
    with constant(weights):
        above = torch.autograd.grad(train_loss(), alphas)
        with torch.no_grad():
            torch._foreach_copy_(weights, kept)
            torch._foreach_sub_(weights, direction)
        below = torch.autograd.grad(train_loss(), alphas)
    with torch.no_grad():
        torch._foreach_copy_(weights, kept)
        implicit = torch._foreach_sub(above, below)
        torch._foreach_mul_(implicit, -xi / (2 * eps))
        return list(torch._foreach_add(direct, implicit)), loss


@contextmanager
def constant(weights: Sequence[Tensor]) -> Iterator[None]:
    """No gradient of these weights is computed inside."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
