"""Cells of partial channels (PC-DARTS) and last cells with alphas of their own."""

import pytest
import torch
import torch.nn.functional as F

from tailnas.search.cost import mixture_multiply_adds
from tailnas.space.cell import MixedEdge, SearchCell
from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("partial", [2, 4])
def test_an_edge_channel_by_channel(stride, partial):
    """Every `partial`-th output channel is mixed, those between are the others in their order, unmixed."""
    channels = 8
    width = channels // partial
    edge = MixedEdge(channels, stride, partial).double()
    images = torch.randn(3, channels, 6, 6, dtype=torch.float64, generator=generator(0))
    weights = torch.rand(9, dtype=torch.float64, generator=generator(1))
    found = edge(images, weights)
    seen = images[:, :width]
    mixed = sum(float(weights[k + 1]) * operation(seen) for k, operation in enumerate(edge.values()))
    passed = images if stride == 1 else F.max_pool2d(images, 2, 2)
    for channel in range(channels):
        place, group = divmod(channel, partial)
        wanted = mixed[:, place] if group == 0 else float(weights[8]) * passed[:, width * group + place]
        torch.testing.assert_close(found[:, channel], wanted, rtol=1e-12, atol=1e-12)


def test_without_weights_for_it_the_bypass_weighs_one():
    with seeded_initialisation(0):
        net = SuperNet(4, 3, 5, 1, partial=2).eval()
    weights = torch.full((14, 8), 1 / 8)
    assert torch.equal(net.mixture(weights)[:, 8], torch.ones(14)) and net.mixture(weights).shape == (14, 9)
    assert torch.isfinite(net(torch.randn(2, 1, 16, 16, generator=generator(2)))).all()


@pytest.mark.parametrize("channels", [6, 9])
def test_a_width_that_cannot_be_parted_is_refused(channels):
    with pytest.raises(ValueError, match=rf"^partial: 4; allowed: a divisor of the cell's {channels} channels"):
        SearchCell(8, 8, channels, reduction=False, reduction_before=False, partial=4)


def test_multiply_adds_fall_as_the_equations_say():
    """Of a normal cell: per edge and pixel 102 C + 6 C^2, of the separable and dilated convolutions, at width C / K."""

    def counted(partial):
        return multiply_adds(SuperNet(16, 1, 10, 3, reductions=(), partial=partial), 3, 16)

    def edges(width):
        return 14 * 16 * 16 * (102 * width + 6 * width**2)

    assert counted(1) - counted(4) == edges(16) - edges(4)
    space = Space(channels=16, cells=3)
    assert mixture_multiply_adds(space, 10, 3, 16, 4) < 0.2 * mixture_multiply_adds(space, 10, 3, 16)


@pytest.mark.parametrize(("cells", "reductions"), [(3, (1, 2)), (7, (2, 5)), (19, (6, 13))])
def test_reductions_by_total_depth(cells, reductions):
    """A search network of 8 cells in all is that of DARTS, a network of 20 its evaluation network."""
    assert Space(channels=4, cells=cells).reductions == reductions


def test_the_last_cell_has_alphas_of_its_own():
    """Only the head's alphas differ: the output moves, and with equal ones it is that of shared alphas."""
    nets = []
    for own_head in (True, False):
        with seeded_initialisation(0):
            nets.append(SuperNet(4, 4, 5, 1, own_head=own_head).double().eval())
    own, shared = nets
    assert own.components == ("normal", "reduce", "instance_head") and shared.components == ("normal", "reduce")
    images = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=generator(0))
    alphas = {name: torch.randn(14, 8, dtype=torch.float64, generator=generator(1)) for name in own.components}
    assert torch.equal(own(images, {**alphas, "instance_head": alphas["normal"]}), shared(images, alphas))
    alphas = {name: values.requires_grad_() for name, values in alphas.items()}
    alphas["instance_head"] = (2 * alphas["instance_head"]).detach().requires_grad_()
    assert not torch.allclose(own(images, alphas), shared(images, alphas))
    gradients = torch.autograd.grad(own(images, alphas).square().sum(), list(alphas.values()))
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)


def test_both_branches_have_partial_channels():
    narrow, wide = (TwoBranchSuperNet(8, 3, 5, 1, partial=partial) for partial in (4, 1))
    counts = [sum(weight.numel() for weight in net.instance_head.edges.parameters()) for net in (narrow, wide)]
    assert counts[0] < counts[1] / 4
    assert narrow.output_channels == wide.output_channels
