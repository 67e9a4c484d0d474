"""Every lowering computes what the plain network computes: outputs, all gradients, running statistics."""

import copy
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.space.depthwise import (
    DepthwiseConv,
    WeightGradient,
    convolve,
    image_sum,
    input_gradient,
    negated_means,
    tap_sums,
)
from tailnas.space.lowering.choose import LOWERINGS
from tailnas.space.lowering.folded import FoldedLowering
from tailnas.space.lowering.grouped_convolutions import GroupedConvolutions
from tailnas.space.lowering.leaving import Small
from tailnas.space.lowering.normalised import moments
from tailnas.space.lowering.normalised_product import NormalisedProduct, covariances, products, summed
from tailnas.space.lowering.standardise import Standardise
from tailnas.space.supernet import SuperNet, frozen_running_statistics, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet

FAST = [name for name in LOWERINGS if name not in {"plain", "by_size"}]
SHAPES = {
    "three cells": (4, 3, 16, 3),
    "normal cells between reductions": (6, 5, 16, 3),
    "sides that halve to odd ones": (4, 3, 20, 1),
    "not square": (4, 3, (16, 24), 3),
}


def difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest relative error over tensors, by norms."""
    errors = [
        float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm().clamp(min=1e-30))
        for a, b in zip(found, expected, strict=True)
    ]
    return max(errors)


def random_alphas(components: Iterable[str], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {name: torch.randn(14, 8, generator=generator, dtype=dtype).requires_grad_() for name in components}


def batch(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(lowering: str, channels: int, cells: int, in_channels: int) -> tuple[SuperNet, SuperNet]:
    nets = []
    for name in (lowering, "plain"):
        with seeded_initialisation(0):
            nets.append(SuperNet(channels, cells, 5, in_channels, lowering=name).double())
    return nets[0], nets[1]


@pytest.mark.parametrize("lowering", FAST)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_forward_gradients_and_statistics_in_float64(lowering: str, shape: tuple) -> None:
    channels, cells, size, in_channels = shape
    height, width = size if isinstance(size, tuple) else (size, size)
    images, labels = batch((4, in_channels, height, width)), torch.tensor([0, 1, 2, 3])
    results = []
    for net in pair(lowering, channels, cells, in_channels):
        alphas = random_alphas(net.components)
        logits = net(images, alphas)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, [*alphas.values(), *net.parameters()])
        statistics = [b for b in net.buffers() if b.is_floating_point()]
        counts = [b.double() + 1 for b in net.buffers() if not b.is_floating_point()]
        results.append((logits, *gradients, *statistics, *counts))
    assert difference(*results) < 1e-10


@pytest.mark.parametrize("lowering", FAST)
def test_gradients_of_some_inputs_only(lowering: str) -> None:
    net, plain = pair(lowering, 4, 3, 3)
    images, alphas = batch((4, 3, 16, 16)), random_alphas(net.components)

    def gradients(net: SuperNet, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(net(images, alphas).square().sum(), inputs)

    for inputs in (
        lambda n: [*alphas.values()],
        lambda n: [*n.cells[1].parameters()],
        lambda n: [*n.stem.parameters()],
    ):
        assert difference(gradients(net, inputs(net)), gradients(plain, inputs(plain))) < 1e-10
    for some in (net, plain):
        some.requires_grad_(False)
    assert difference(gradients(net, [*alphas.values()]), gradients(plain, [*alphas.values()])) < 1e-10


@pytest.mark.parametrize("lowering", FAST)
def test_backward_fills_grad_fields(lowering: str) -> None:
    net, plain = pair(lowering, 4, 2, 3)
    for some in (net, plain):
        some(batch((4, 3, 16, 16)), random_alphas(net.components)).square().sum().backward()
    found, expected = ([parameter.grad for parameter in some.parameters()] for some in (net, plain))
    assert difference(found, expected) < 1e-10


@pytest.mark.parametrize("lowering", FAST)
def test_two_branches(lowering: str) -> None:
    results = []
    for name in (lowering, "plain"):
        with seeded_initialisation(0):
            net = TwoBranchSuperNet(4, 3, 5, lowering=name).double()
        alphas = random_alphas(net.components)
        outputs = net(batch((4, 3, 16, 16), 0), batch((4, 3, 16, 16), 1), alphas, 0.3, "probabilities")
        gradients = torch.autograd.grad(outputs.square().sum(), [*alphas.values(), *net.parameters()])
        statistics = [buffer for buffer in net.buffers() if buffer.is_floating_point()]
        evaluated = net.eval().predict_logits(batch((4, 3, 16, 16), 2), alphas)
        results.append((outputs, *gradients, *statistics, evaluated))
    assert difference(*results) < 1e-10


@pytest.mark.parametrize("lowering", FAST)
def test_frozen_running_statistics(lowering: str) -> None:
    net, _ = pair(lowering, 4, 2, 3)
    before = copy.deepcopy(net.state_dict())
    with frozen_running_statistics(net):
        net(batch((4, 3, 16, 16)))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("lowering", FAST)
def test_single_path_alphas(lowering: str) -> None:
    """Weights of exactly 0 and 1, as single-path training has them."""
    net, plain = pair(lowering, 4, 3, 3)
    path = torch.full((14, 8), -torch.inf, dtype=torch.float64)
    path[torch.arange(14), torch.arange(14) % 7 + 1] = 0
    alphas = dict.fromkeys(net.components, path)
    images = batch((4, 3, 16, 16))
    results = []
    for some in (net, plain):
        loss = some(images, alphas).square().sum()
        results.append((loss, *torch.autograd.grad(loss, list(some.parameters()), allow_unused=True)))
    assert difference(*([g for g in result if g is not None] for result in results)) < 1e-10


@pytest.mark.parametrize("lowering", FAST)
def test_float32_error_is_that_of_the_plain_network(lowering: str) -> None:
    """Alpha gradients against float64, where a flipped ReLU or maximum costs either network more than its roundings."""
    net, plain = pair(lowering, 8, 3, 3)
    errors: dict[str, list[float]] = {"fast": [], "plain": []}
    for seed in range(5):
        images = batch((8, 3, 16, 16), seed)
        labels = torch.arange(8) % 5
        exact = {name: value.detach().clone() for name, value in random_alphas(net.components).items()}

        def gradients(some: SuperNet, dtype: torch.dtype, images=images, labels=labels, exact=exact) -> list[Tensor]:
            alphas = {name: value.to(dtype).requires_grad_() for name, value in exact.items()}
            loss = F.cross_entropy(some.to(dtype)(images.to(dtype), alphas), labels)
            return list(torch.autograd.grad(loss, list(alphas.values())))

        state = copy.deepcopy(plain.double().state_dict())
        reference = gradients(plain, torch.float64)
        errors["plain"].append(difference(gradients(plain, torch.float32), reference))
        errors["fast"].append(difference(gradients(net, torch.float32), reference))
        plain.double().load_state_dict(state)
    assert sorted(errors["fast"])[2] < 3 * sorted(errors["plain"])[2], errors


@pytest.mark.parametrize("weights_wanted", [True, False])
def test_edges_are_grouped_by_size_and_by_what_is_asked_for(weights_wanted: bool, monkeypatch) -> None:
    grouped = []
    init = GroupedConvolutions.__init__
    monkeypatch.setattr(
        GroupedConvolutions, "__init__", lambda self, *args: (grouped.append(self), init(self, *args))[1]
    )
    net = pair("plain", 4, 3, 3)[0].requires_grad_(weights_wanted)
    maps_of_first_cell = 2 * 4 * 16 * 16
    net.lowering = lambda device, training: lowering
    for limit, cells in ((maps_of_first_cell - 1, 2), (maps_of_first_cell, 3)):
        lowering = FoldedLowering(Small(limit, 0) if weights_wanted else Small(0, limit))
        grouped.clear()
        net(batch((2, 3, 16, 16)), random_alphas(net.components))
        assert len(grouped) == 5 * cells


def test_evaluation_is_the_plain_network() -> None:
    net, plain = pair("auto", 4, 3, 3)
    images = batch((4, 3, 16, 16))
    for some in (net, plain):
        some(images)
        some.eval()
    assert difference([net(images)], [plain(images)]) < 1e-12


def test_layout_of_checkpoints_does_not_depend_on_the_lowering() -> None:
    net, plain = pair("folded", 4, 2, 3)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert isinstance(copy.deepcopy(net)(batch((2, 3, 16, 16))), Tensor)


def test_unknown_lowering_is_named() -> None:
    with pytest.raises(ValueError, match="'magic'"):
        SuperNet(4, 2, 5, lowering="magic")


@pytest.mark.parametrize(
    ("stride", "size"),
    [(1, (8, 8)), (1, (6, 10)), (1, (5, 7)), (1, (4, 4)), (1, (2, 6)), (2, (8, 8)), (2, (6, 10)), (2, (4, 4))],
)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_gradients(kernel: int, stride: int, dilation: int, size: tuple[int, int]) -> None:
    images = batch((3, 4, *size)).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = batch((4, 1, kernel, kernel), 1).requires_grad_()
    output = convolve(images, weight, stride=stride, dilation=dilation)
    padding = dilation * (kernel - 1) // 2
    torch.testing.assert_close(output, F.conv2d(images, weight, None, stride, padding, dilation, 4))
    gradient = batch(tuple(output.shape), 2).contiguous(memory_format=torch.channels_last)
    expected = torch.autograd.grad(output, [images, weight], gradient)
    found = [
        input_gradient(gradient, weight.detach(), images.detach(), stride=stride, dilation=dilation),
        WeightGradient(images.detach(), stride=stride, dilation=dilation)(gradient, weight.detach()),
    ]
    assert difference(found, expected) < 1e-13


@pytest.mark.parametrize(("stride", "dilation", "kernel"), [(1, 1, 3), (1, 1, 5), (1, 2, 5), (2, 1, 5), (2, 2, 3)])
def test_depthwise_module_of_either_layout(stride: int, dilation: int, kernel: int) -> None:
    module = DepthwiseConv(4, kernel, stride=stride, dilation=dilation).double()
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        images = batch((5, 4, 8, 8)).contiguous(memory_format=layout).requires_grad_()
        output = module(images)
        found.append([output, *torch.autograd.grad(output.square().sum(), [images, module.weight])])
    assert type(output.grad_fn).__name__ == "_ConvolutionBackward"
    assert difference(found[1], found[0]) < 1e-12


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("stride", "dilation", "size"), [(1, 1, (8, 6)), (1, 2, (8, 6)), (2, 1, (8, 6)), (1, 2, (2, 3))]
)
def test_convolutions_are_centred_by_their_sum(stride: int, dilation: int, kernel: int, size: tuple[int, int]) -> None:
    images, kernels = batch((2, 3, 4, *size)), batch((2, 4, 1, kernel, kernel), 1)
    geometry = {"stride": stride, "dilation": dilation}
    pixels = images[0, :, 0, ::stride, ::stride].numel()
    alike = negated_means(tap_sums(image_sum(images[0]).unsqueeze(2), **geometry), kernels, pixels)
    sums = torch.stack([image_sum(part) for part in images], dim=2)
    each = negated_means(tap_sums(sums, **geometry), kernels, pixels)
    for weight, bias, of_first, own in zip(kernels, each, alike, images, strict=True):
        assert convolve(own, weight, bias, **geometry).mean(dim=(0, 2, 3)).abs().max() < 1e-14
        assert convolve(images[0], weight, of_first, **geometry).mean(dim=(0, 2, 3)).abs().max() < 1e-14


def test_normalised_product_and_its_gradients() -> None:
    rows = 24
    inputs = [batch((rows, 5), seed).requires_grad_() for seed in (0, 1)]
    weights = batch((2, 4, 5), 2).requires_grad_()
    scale = torch.tensor([0.3, 1.7], dtype=torch.float64).requires_grad_()
    norm = nn.BatchNorm1d(4, affine=False).double()
    expected = torch.stack([s * norm(x @ w.t()) for s, x, w in zip(scale, inputs, weights, strict=True)])
    gradient = batch((2, rows, 4), 3)
    expected_gradients = torch.autograd.grad(expected, [*inputs, weights, scale], gradient)
    with torch.no_grad():
        means = torch.stack([x.mean(0) for x in inputs])
        centred, covariance = covariances(x - mean for x, mean in zip(inputs, means, strict=True))
        product = NormalisedProduct.of(weights, means, covariance, norm.eps)
        torch.testing.assert_close(product.mean[1], (inputs[1] @ weights[1].t()).mean(0))
        torch.testing.assert_close(product.variance[1], (inputs[1] @ weights[1].t()).var(0, unbiased=False))
        found = torch.stack([x @ v.t() for x, v in zip(centred, product.folded(scale), strict=True)])
        torch.testing.assert_close(found, expected)
        cross = summed([products(g, x) for g, x in zip(gradient, centred, strict=True)])
        result = product.backward(scale, cross, rows)
        gradient -= gradient.mean(1, keepdim=True)
        input_gradients = [gradient[i] @ result.direct[i] + centred[i] @ result.through_variance[i] for i in (0, 1)]
    assert difference([*input_gradients, result.weights, result.scale], expected_gradients) < 1e-12


def test_standardise() -> None:
    matrix = batch((40, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Standardise.apply(x, 1e-5)[0], [matrix])
    result, mean, variance = Standardise.apply(matrix, 1e-5)
    torch.testing.assert_close(result, F.batch_norm(matrix, None, None, training=True))
    torch.testing.assert_close(mean, matrix.mean(0))
    torch.testing.assert_close(variance, matrix.var(0, unbiased=False))


@pytest.mark.parametrize(("rows", "columns"), [(8192, 96), (2048, 8), (75, 4), (1, 3)])
def test_moments_of_columns_are_as_accurate_as_float32_allows(rows: int, columns: int) -> None:
    exact = batch((rows, columns)) * 1.3 + 0.7
    matrix = exact.float()
    for found, expected in zip(moments(matrix), (exact.mean(0), exact.var(0, correction=0)), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)
