"""Draws from Dirichlet distributions: their law, and their gradient."""

import pytest
import torch
from scipy import special, stats

from tailnas.search.dirichlet import dirichlet_draw, dirichlet_noise


@pytest.mark.parametrize("concentration", [[0.2, 0.3, 1.0], [1.0] * 8, [2.0, 0.5, 7.0, 1.5]], ids=str)
def test_each_coordinate_has_its_beta_distribution(concentration):
    """Kolmogorov-Smirnov on 20,000 draws; a share of Dirichlet weights is Beta(a, total - a)."""
    count, total = 20_000, sum(concentration)
    rows = torch.tensor(concentration, dtype=torch.float64).expand(count, -1)
    draws = dirichlet_draw(rows, dirichlet_noise((count, len(concentration)), torch.Generator().manual_seed(0)))
    assert float((draws.sum(-1) - 1).abs().max()) < 1e-12
    for place, shape in enumerate(concentration):
        assert stats.kstest(draws[:, place].numpy(), stats.beta(shape, total - shape).cdf).pvalue > 1e-4
    correlation = float(torch.corrcoef(draws.T)[0, 1])
    a, b = concentration[:2]
    assert correlation == pytest.approx(-((a * b / ((total - a) * (total - b))) ** 0.5), abs=0.03)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.4, 2.0), (3.0, 1.2)])
def test_the_gradient_is_that_of_the_implicit_function(a, b):
    """Of two weights the first is Beta(a, b): dx/da = -(dF/da) / density, here by differences of scipy's F."""
    rows = torch.tensor([[a, b]], dtype=torch.float64).expand(50, 2).clone().requires_grad_()
    draws = dirichlet_draw(rows, dirichlet_noise((50, 2), torch.Generator().manual_seed(1)))
    found = torch.autograd.grad(draws[:, 0].sum(), rows)[0]
    x, step = draws[:, 0].detach().numpy(), 1e-5
    for place, (up, down) in enumerate((((a + step, b), (a - step, b)), ((a, b + step), (a, b - step)))):
        slope = (special.betainc(*up, x) - special.betainc(*down, x)) / (2 * step)
        wanted = torch.from_numpy(-slope / stats.beta(a, b).pdf(x))
        torch.testing.assert_close(found[:, place], wanted, rtol=2e-3, atol=2e-4)
