"""Collapse watch, on functions and histories whose answer is known."""

import pytest
import torch

from tailnas.foundation.seeding import torch_generator
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.search.collapse import PRODUCTS, hessian_eigenvalue, largest_eigenvalue, warnings
from tailnas.search.objective import SingleBranch, TwoBranch
from tailnas.space.supernet import initial_alphas
from tests.unit.small_search import search

SPECTRA = {
    "positive": (torch.linspace(0.1, 5.0, 30), 0.3),
    "the largest is not the one of largest size": (
        torch.cat([torch.tensor([-9.0, 2.0]), torch.linspace(-1, 1, 28)]),
        0.3,
    ),
    "negative": (torch.linspace(-7.0, -0.5, 30), 0.3),
    "two values": (torch.tensor([-9.0] * 20 + [2.0] * 10), 1e-9),
    "one direction": (torch.tensor([3.0] + [0.0] * 29), 1e-9),
}
"""Eigenvalues, and how far the found one may be off: nothing where there are no more than two."""


@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalue_of_a_quadratic(name):
    """1/2 x' Q diag(spectrum) Q' x has exactly these eigenvalues, whatever the linear part is."""
    generator = torch.Generator().manual_seed(1)
    spectrum, error = SPECTRA[name]
    rotation, _ = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64, generator=generator))
    matrix = rotation @ torch.diag(spectrum.double()) @ rotation.T
    points = [
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in ((4, 5), 10)
    ]
    x = torch.cat([values.flatten() for values in points])
    loss = x @ matrix @ x / 2 + x.sum()
    value, products = largest_eigenvalue(loss, points)
    assert value == pytest.approx(float(spectrum.max()), abs=error)
    assert 1 <= products <= PRODUCTS


def test_a_linear_loss_has_no_curvature():
    point = torch.ones(5, requires_grad=True)
    assert largest_eigenvalue((point * point.detach()).sum() + 0 * (point**2).sum(), [point])[0] == pytest.approx(0)


@pytest.mark.parametrize("branches", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_eigenvalue_of_a_search_leaves_no_trace(make_task, branches):
    """Against central differences of the gradient, along the direction that they themselves single out."""
    task = make_task()
    network = (task.single_branch() if branches == 1 else task.two_branch()).double()
    objective = SingleBranch(network) if branches == 1 else TwoBranch(network)
    alphas = initial_alphas(network.components, torch_generator(0, "alphas"))
    alphas = {name: values.double() for name, values in alphas.items()}
    images = torch.randn(8, 1, 16, 16, dtype=torch.float64, generator=torch_generator(0, "images"))
    batches = ((images, torch.arange(8) % 3),) * branches
    state = {name: values.clone() for name, values in network.state_dict().items()}
    found, _ = hessian_eigenvalue(objective, alphas, batches)
    assert all(torch.equal(values, state[name]) for name, values in network.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())
    assert not any(values.requires_grad for values in alphas.values())

    # A Rayleigh quotient, from differences of the gradient, is a lower bound that shifted power iterations raise. The
    # step is small, since the gradient jumps where a ReLU or a maximum changes sides.
    generator, step, quotients = torch_generator(0, "direction"), 1e-7, []
    direction = {name: torch.randn(14, 8, dtype=torch.float64, generator=generator) for name in alphas}
    for _ in range(6):
        size = torch.cat([values.flatten() for values in direction.values()]).norm()
        direction = {name: values / size for name, values in direction.items()}
        sides = []
        for sign in (1, -1):
            moved = {n: (values + sign * step * direction[n]).requires_grad_(True) for n, values in alphas.items()}
            loss = objective.loss(batches, moved, "architecture")["loss"]
            sides.append(dict(zip(moved, torch.autograd.grad(loss, list(moved.values())), strict=True)))
        product = {name: (sides[0][name] - sides[1][name]) / (2 * step) for name in alphas}
        quotients.append(sum(float((product[name] * direction[name]).sum()) for name in alphas))
        direction = {name: product[name] + found * direction[name] for name in alphas}
    assert quotients == sorted(quotients) and 0.2 * found < quotients[-1] < 1.01 * found


def row(genotype: Genotype, movement: float = 0.1):
    return {"genotype": genotype.to_line(), "softmax_movement": movement}


def test_a_search_that_found_something_is_not_warned_about():
    assert warnings([row(DARTS_V2)]) == [] == warnings([])


def test_degenerate_cells_are_named_with_the_epoch():
    skips = tuple(("skip_connect", source) for source in (0, 1) * 4)
    collapsed = Genotype(skips, DARTS_V2.reduce)
    (line,) = warnings([row(collapsed), row(DARTS_V1), row(collapsed), row(collapsed)])
    assert "normal has degenerated: 8 of its 8" in line and line.endswith("since epoch 3")


def test_alphas_that_never_moved_are_named():
    (line,) = warnings([row(DARTS_V2, 0.1), row(DARTS_V2, 0.0191)])
    assert "0.0191" in line and "noise" in line and "search.bilevel.architecture_learning_rate" in line


def test_searches_record_the_eigenvalue_only_when_asked(make_task, monkeypatch):
    monkeypatch.setattr("tailnas.search.collapse.PRODUCTS", 2)
    asked = search("darts", make_task(epochs=1, hessian=True))
    other = search("darts", make_task(epochs=1))
    assert "hessian_eigenvalue" in asked.history[0]
    recorded = ("hessian_eigenvalue", "hessian_products")
    assert {name: value for name, value in asked.history[0].items() if name not in recorded} == other.history[0]
