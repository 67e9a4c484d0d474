"""Collapse watch: what tells a search that found nothing from one that did (R-DARTS, 1909.09656).

Skip connections that take over a cell, softmax weights that never moved, and the largest eigenvalue of the Hessian of
the validation loss over the alphas, which rises before DARTS collapses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tailnas.genotype.genotype import MOVEMENT_OF_NOISE
from tailnas.search.architecture_gradient import constant
from tailnas.search.objective import Batch, Objective
from tailnas.space.backends.choose import BackendChoice
from tailnas.space.supernet import frozen_running_statistics
from tailnas.training.checkpoint import Row

DEGENERATE_FROM = 0.5
"""Share of skip connections among a cell's 8 operations from which it counts as degenerate (a reading)."""
PRODUCTS = 20
"""Hessian-vector products of an eigenvalue, at most."""
TOLERANCE = 0.01
"""Share of an eigenvalue below which its change by another product ends the iterations."""


def degenerate_cells(genotype: str) -> dict[str, int]:
    """The components of a genotype's JSON that are mostly skip connections, with how many of their 8 they are."""
    cells = {name: edges for name, edges in json.loads(genotype).items() if name != "concat"}
    skips = {name: sum(primitive == "skip_connect" for primitive, _ in edges) for name, edges in cells.items()}
    return {name: count for name, count in skips.items() if count >= DEGENERATE_FROM * len(cells[name])}


def warnings(history: Sequence[Row]) -> list[str]:
    """One line for each thing that is wrong with a search, from its history; none where nothing is."""
    if not history:
        return []
    lines = []
    for name, count in degenerate_cells(str(history[-1]["genotype"])).items():
        since = len(history)
        while since > 1 and name in degenerate_cells(str(history[since - 2]["genotype"])):
            since -= 1
        lines.append(f"{name} has degenerated: {count} of its 8 operations are skip connections, since epoch {since}")
    movement = float(history[-1]["softmax_movement"])
    if movement < MOVEMENT_OF_NOISE:
        lines.append(
            f"the softmax weights moved by {movement:.4f} on average, less than {MOVEMENT_OF_NOISE}: this genotype is "
            "initialisation noise; raise search.bilevel.architecture_learning_rate or the steps"
        )
    return lines


def hessian_eigenvalue(
    objective: Objective, alphas: Mapping[str, Tensor], batches: tuple[Batch, ...]
) -> tuple[float, int]:
    """Largest eigenvalue of the Hessian of the validation loss over all alphas, on one batch for each branch, and the
    Hessian-vector products that it took.

    In training mode as the alpha steps are, with running statistics left alone, in float32, by the plain definition of
    the network, which can be differentiated twice, under expected mixture weights.
    """
    network = objective.network
    backend, precision = network.backend, objective.precision
    leaves = {name: values.detach().clone().requires_grad_(True) for name, values in alphas.items()}
    network.backend, objective.precision, objective.draws = BackendChoice("plain"), "float32", False
    training = network.training
    try:
        network.train()
        with (
            frozen_running_statistics(network),
            constant([weight for weight in network.parameters() if weight.requires_grad]),
        ):
            loss = objective.loss(batches, leaves, "architecture")["loss"]
            return largest_eigenvalue(loss, list(leaves.values()))
    finally:
        network.backend, objective.precision, objective.draws = backend, precision, True
        network.train(training)


def largest_eigenvalue(loss: Tensor, points: Sequence[Tensor]) -> tuple[float, int]:
    """Largest (algebraic) eigenvalue of the Hessian of `loss` over the leaves `points`, and the products it took.

    Lanczos iterations from a fixed start, each one Hessian-vector product: at most PRODUCTS, fewer once the value
    changes by less than TOLERANCE. No Hessian is formed.
    """
    gradients = torch.autograd.grad(loss, points, create_graph=True)
    gradient = torch.cat([values.flatten() for values in gradients])
    direction = torch.randn(len(gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis: list[Tensor] = []
    diagonal: list[float] = []
    beside: list[float] = []
    value = float("nan")
    for _ in range(min(PRODUCTS, len(gradient))):
        basis.append(direction / direction.norm())
        parts = torch.autograd.grad(gradient, points, basis[-1].to(gradient), retain_graph=True, materialize_grads=True)
        direction = torch.cat([values.flatten() for values in parts]).double().cpu()
        diagonal.append(float(basis[-1] @ direction))
        known = torch.stack(basis, dim=1)
        for _ in range(2):  # the second pass removes what rounding left of the first
            direction = direction - known @ (known.T @ direction)
        before, value = value, _largest_of_tridiagonal(diagonal, beside)
        beside.append(float(direction.norm()))
        if abs(value - before) <= TOLERANCE * abs(value) or beside[-1] <= 1e-12 * abs(value):
            break
    return value, len(basis)


def _largest_of_tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> float:
    above = torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
    return float(torch.linalg.eigvalsh(torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + above + above.T)[-1])
