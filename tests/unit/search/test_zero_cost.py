"""Zero-cost proxies against values by hand and against independent computations in float64."""

import math
from copy import deepcopy
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tailnas import DARTS_V2
from tailnas.foundation.seeding import torch_generator
from tailnas.search.zero_cost import PROXIES, SMALL, grad_norm, jacov, nwot, offset, snip, synflow
from tailnas.space.network import Network
from tailnas.space.path_costs import candidate_network
from tailnas.space.random_genotype import random_genotype
from tailnas.space.settings import Space
from tailnas.space.supernet import seeded_initialisation

ITSELF = nn.Flatten()


def linear(*rows: list[float], bias: float = 0.0) -> nn.Linear:
    """A linear layer with these weights, in float64."""
    weight = torch.tensor(rows, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data.copy_(weight)
    layer.bias.data.fill_(bias)
    return layer


@pytest.fixture
def case():
    """A random derived network in float64 with used statistics, images (6, 1, 16, 16) and labels."""
    generator = torch_generator(0, "test")
    with seeded_initialisation(3):
        network = candidate_network(random_genotype(generator), Space(channels=2, cells=3), 3, 1).double()
        images = torch.randn(6, 1, 16, 16, dtype=torch.float64)
        network(images)
    return network, images, torch.tensor([0, 1, 2, 0, 1, 1])


def test_synflow_of_a_linear_network_is_the_product_of_its_weights():
    """|3 -1| through |2| and through |-5|: R = (3 + 1) * 2 * 5 = 40, which every layer's weights sum to."""
    network = nn.Sequential(ITSELF, linear([3, -1]), linear([2]), linear([-5]))
    assert synflow(network, torch.full((4, 1, 1, 2), 7.0)) == pytest.approx(3 * 40)


def test_biases_of_synflow_add_to_the_signal_and_not_to_the_score():
    """R = (3 + 1 + 6) * 2: the first layer's weights sum to 4 * 2, the second's to 10 * 2."""
    network = nn.Sequential(ITSELF, linear([3, -1], bias=-6), linear([2]))
    assert synflow(network, torch.zeros(1, 1, 1, 2)) == pytest.approx(4 * 2 + 10 * 2)


def test_synflow_by_differences_of_the_whole_network(case):
    """A layer's share is the derivative of R for a common factor of its weights, here by central differences."""
    network, images, _ = case
    score = synflow(network, images)
    with torch.no_grad():
        network.eval()
        for tensor in network.state_dict().values():
            tensor.abs_()

        def total(layer, factor):
            kept = layer.weight.data
            layer.weight.data = kept * factor
            value = float(network(torch.ones(1, 1, 16, 16, dtype=torch.float64)).sum())
            layer.weight.data = kept
            return value

        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        step = 1e-5
        shares = [(total(layer, 1 + step) - total(layer, 1 - step)) / (2 * step) for layer in layers]
    assert score == pytest.approx(sum(shares), rel=1e-7) and score > 0


def test_snip_and_grad_norm_by_hand():
    """z = W x, x = (1, 2), label 0, p = (1/2, 1/2): dL/dz = (-1/2, 1/2), g = ((-1/2, -1), (1/2, 1))."""
    network = nn.Sequential(ITSELF, linear([2, -1], [-4, 2]))
    images, labels = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64), torch.tensor([0])
    assert snip(network, images, labels) == pytest.approx(2 / 2 + 1 + 4 / 2 + 2)
    assert grad_norm(network, images, labels) == pytest.approx(math.sqrt(0.25 + 1 + 0.25 + 1))


def test_snip_and_grad_norm_by_backward(case):
    network, images, labels = case
    expected_snip = expected_norm = 0.0
    before = {name: value.clone() for name, value in network.state_dict().items()}
    F.cross_entropy(network.train()(images), labels).backward()
    for weight in network.parameters():
        if weight.dim() > 1:
            expected_snip += float(np.abs(weight.grad.numpy() * weight.detach().numpy()).sum())
            expected_norm += float(np.sqrt((weight.grad.numpy() ** 2).sum()))
    network.load_state_dict(before)
    assert snip(network, images, labels) == pytest.approx(expected_snip, rel=1e-12)
    assert grad_norm(network, images, labels) == pytest.approx(expected_norm, rel=1e-12)


def test_nwot_by_hand():
    """Codes 10, 11 and 01 of two ReLUs: K = ((2, 1, 0), (1, 2, 1), (0, 1, 2)), det 4."""
    network = nn.Sequential(ITSELF, linear([1, 0], [0, 1]), nn.ReLU())
    images = torch.tensor([[3.0, -1.0], [1.0, 2.0], [-2.0, 5.0]], dtype=torch.float64).view(3, 1, 1, 2)
    assert nwot(network, images) == pytest.approx(math.log(4))
    assert nwot(network, images[[0, 1, 0]]) == -math.inf, "an image twice has one code"


def test_nwot_counts_agreements_of_every_relu(case, monkeypatch):
    """Pair by pair, from the signs that ReLUs are given in a forward pass whose ReLU is another function."""
    network, images, _ = case
    codes = []

    def relu(maps, inplace=False):
        codes.append((maps > 0).flatten(1).numpy())
        return maps.clamp_min(0)

    found = nwot(network, images)
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(F, "relu", relu)
        network.train()(images)
    code = np.concatenate(codes, axis=1)
    kernel = np.full((6, 6), float(code.shape[1]))
    for i, j in combinations(range(6), 2):
        kernel[i, j] = kernel[j, i] = code.shape[1] - np.count_nonzero(code[i] != code[j])
    assert found == pytest.approx(np.log(np.linalg.det(kernel)), rel=1e-10)


def test_jacov_by_hand():
    """z = x^2 / 2 has the gradient x: rows (1, -1) and (-1, 1) correlate with -1, eigenvalues 2 and 0."""

    class Square(nn.Module):
        def forward(self, images):
            return images.flatten(1).square() / 2

    rows = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).view(2, 1, 1, 2)
    expected = -(math.log(2 + SMALL) + 1 / (2 + SMALL) + math.log(SMALL) + 1 / SMALL)
    assert jacov(Square(), rows) == pytest.approx(expected)


def constant_norm(norm, maps):
    rows = maps.detach().transpose(0, 1).flatten(1)
    mean, std = rows.mean(1)[:, None, None], (rows.var(1, correction=0) + norm.eps).sqrt()[:, None, None]
    scale, shift = (1.0, 0.0) if norm.weight is None else (norm.weight[:, None, None], norm.bias[:, None, None])
    return (maps - mean) / std * scale + shift


def test_jacov_is_no_rounding_error_where_a_network_ends_in_batch_norm():
    """Cells without pooling do: through the statistics, the sum of the outputs would not depend on the images."""
    with seeded_initialisation(0):
        network, images = Network(DARTS_V2, 4, 10, 2), torch.randn(6, 3, 16, 16)
    found = jacov(network, images)
    assert found == pytest.approx(jacov(deepcopy(network).double(), images.double()), rel=1e-3)
    assert found == pytest.approx(jacov(network, images * (1 + 1e-6)), rel=1e-3)


def test_jacov_by_the_correlations_of_numpy(case):
    """BatchNorms with the statistics of the batch as constants, each in place of the module."""
    network, images, _ = case
    inputs = images.clone().requires_grad_()
    fixed = deepcopy(network).train()
    for norm in (module for module in fixed.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.forward = partial(constant_norm, norm)
    fixed(inputs).sum().backward()
    eigenvalues = np.linalg.eigvals(np.corrcoef(inputs.grad.flatten(1).numpy())).real
    expected = -np.sum(np.log(eigenvalues + SMALL) + 1 / (eigenvalues + SMALL))
    assert jacov(network, images) == pytest.approx(expected, rel=1e-8)


def test_offset_is_the_mean_feature_of_a_batch(case):
    network, images, _ = case
    before = {name: value.clone() for name, value in network.state_dict().items()}
    mean = network.train().features(images).detach().numpy().mean(0)
    network.load_state_dict(before)
    assert offset(network, images) == pytest.approx(-float((mean**2).sum()), rel=1e-10)


def test_images_that_a_network_tells_apart_score_higher():
    """More spread means less correlation and more different codes: the sign of both proxies."""
    with seeded_initialisation(0):
        network = nn.Sequential(ITSELF, nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
        spread = torch.randn(6, 1, 1, 8)
    alike = spread[:1] + 0.05 * spread
    assert nwot(network, spread) > nwot(network, alike) and jacov(network, spread) > jacov(network, alike)


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_leaves_the_network_as_it_was(case, proxy):
    network, images, labels = case
    network = network.float()
    network.stem.eval()
    before = {name: (value, value.clone(), value.dtype) for name, value in network.state_dict(keep_vars=True).items()}
    modes = [module.training for module in network.modules()]
    first = PROXIES[proxy](network, images.float(), labels)
    assert PROXIES[proxy](network, images.float(), labels) == first and math.isfinite(first)
    after = network.state_dict(keep_vars=True)
    for name, (tensor, values, dtype) in before.items():
        assert after[name] is tensor and after[name].dtype == dtype and torch.equal(after[name], values)
    assert [module.training for module in network.modules()] == modes
    assert all(weight.grad is None for weight in network.parameters())
