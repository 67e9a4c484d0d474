"""Every backend computes what the plain network computes: outputs, all gradients, running statistics."""

import copy
from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.space.backends.choose import BACKENDS
from tailnas.space.backends.cpu.backend import CpuBackend, SideBySideLimits
from tailnas.space.backends.cpu.batch_norm import (
    FoldedBatchNorm,
    Normalise,
    covariances,
    moments,
    product_in_parts,
    summed_products,
)
from tailnas.space.depthwise import (
    DepthwiseConv,
    KernelGradient,
    centring_biases,
    convolve,
    every_second,
    input_gradient,
    sum_over_batch,
    sums_read_by_taps,
)
from tailnas.space.operations import FactorizedReduce, concatenated
from tailnas.space.supernet import MixtureWeights, SuperNet, frozen_running_statistics, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet

FAST = [name for name in BACKENDS if name not in {"plain", "cpu"}]
QUICK = {"sides that halve to odd ones": (4, 3, 20, 1)}
SHAPES = {
    "three cells": (4, 3, 16, 3),
    "normal cells between reductions": (6, 5, 16, 3),
    "not square": (4, 3, (16, 24), 3),
}
"""Each is a quick test of tests/exactness, where the reference is one of its own; so is what else is slow here."""


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


def pair(backend: str, channels: int, cells: int, in_channels: int) -> tuple[SuperNet, SuperNet]:
    nets = []
    for name in (backend, "plain"):
        with seeded_initialisation(0):
            nets.append(SuperNet(channels, cells, 5, in_channels, backend=name).double())
    return nets[0], nets[1]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    "shape",
    [
        *(pytest.param(shape, id=name) for name, shape in QUICK.items()),
        *(pytest.param(shape, id=name, marks=pytest.mark.slow) for name, shape in SHAPES.items()),
    ],
)
def test_forward_gradients_and_statistics_in_float64(backend: str, shape: tuple) -> None:
    channels, cells, size, in_channels = shape
    height, width = size if isinstance(size, tuple) else (size, size)
    images, labels = batch((4, in_channels, height, width)), torch.tensor([0, 1, 2, 3])
    results = []
    for net in pair(backend, channels, cells, in_channels):
        alphas = random_alphas(net.components)
        logits = net(images, alphas)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, [*alphas.values(), *net.parameters()])
        statistics = [b for b in net.buffers() if b.is_floating_point()]
        counts = [b.double() + 1 for b in net.buffers() if not b.is_floating_point()]
        results.append((logits, *gradients, *statistics, *counts))
    assert difference(*results) < 1e-10


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("partial", "channels", "size"), [(4, 8, 16), (2, 4, (16, 24))], ids=["a quarter", "a half"])
def test_partial_channels(backend: str, partial: int, channels: int, size: int | tuple[int, int]) -> None:
    """Of one branch with a head of its own, in training with and without gradients of the weights."""
    height, width = size if isinstance(size, tuple) else (size, size)
    images, labels = batch((4, 3, height, width)), torch.tensor([0, 1, 2, 3])
    results = []
    for name in (backend, "plain"):
        with seeded_initialisation(0):
            net = SuperNet(channels, 4, 5, 3, backend=name, partial=partial, own_head=True).double()
        alphas = random_alphas(net.components)
        weights = MixtureWeights({key: torch.cat([a.softmax(1), a[:, :1]], dim=1) for key, a in alphas.items()})
        loss = F.cross_entropy(net(images, weights), labels)
        gradients = torch.autograd.grad(loss, [*alphas.values(), *net.parameters()])
        for some in net.parameters():
            some.requires_grad_(False)
        logits = net(images, alphas)
        alone = torch.autograd.grad(F.cross_entropy(logits, labels), [*alphas.values()])
        statistics = [b for b in net.buffers() if b.is_floating_point()]
        results.append((loss, *gradients, logits, *alone, *statistics))
    assert difference(*results) < 1e-9


@pytest.mark.parametrize("backend", FAST)
def test_gradients_of_some_inputs_only(backend: str) -> None:
    net, plain = pair(backend, 4, 3, 3)
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


@pytest.mark.parametrize("backend", FAST)
def test_backward_fills_grad_fields(backend: str) -> None:
    net, plain = pair(backend, 4, 2, 3)
    for some in (net, plain):
        some(batch((4, 3, 16, 16)), random_alphas(net.components)).square().sum().backward()
    found, expected = ([parameter.grad for parameter in some.parameters()] for some in (net, plain))
    assert difference(found, expected) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
def test_two_branches(backend: str) -> None:
    results = []
    for name in (backend, "plain"):
        with seeded_initialisation(0):
            net = TwoBranchSuperNet(4, 3, 5, backend=name).double()
        alphas = random_alphas(net.components)
        outputs = net(batch((4, 3, 16, 16), 0), batch((4, 3, 16, 16), 1), alphas, 0.3, "probabilities")
        gradients = torch.autograd.grad(outputs.square().sum(), [*alphas.values(), *net.parameters()])
        statistics = [buffer for buffer in net.buffers() if buffer.is_floating_point()]
        evaluated = net.eval().predict_logits(batch((4, 3, 16, 16), 2), alphas)
        results.append((outputs, *gradients, *statistics, evaluated))
    assert difference(*results) < 1e-10


@pytest.mark.parametrize("backend", FAST)
def test_frozen_running_statistics(backend: str) -> None:
    net, _ = pair(backend, 4, 2, 3)
    before = copy.deepcopy(net.state_dict())
    with frozen_running_statistics(net):
        net(batch((4, 3, 16, 16)))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("backend", FAST)
def test_single_path_alphas(backend: str) -> None:
    """Weights of exactly 0 and 1, as single-path training has them."""
    net, plain = pair(backend, 4, 3, 3)
    path = torch.full((14, 8), -torch.inf, dtype=torch.float64)
    path[torch.arange(14), torch.arange(14) % 7 + 1] = 0
    alphas = dict.fromkeys(net.components, path)
    images = batch((4, 3, 16, 16))
    results = []
    for some in (net, plain):
        loss = some(images, alphas).square().sum()
        results.append((loss, *torch.autograd.grad(loss, list(some.parameters()), allow_unused=True)))
    assert difference(*([g for g in result if g is not None] for result in results)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
def test_float32_error_is_that_of_the_plain_network(backend: str) -> None:
    """Alpha gradients against float64, where a flipped ReLU or maximum costs either network more than its roundings."""
    net, plain = pair(backend, 8, 3, 3)
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


@pytest.mark.parametrize("reductions", [(), (0,)], ids=["normal cell", "reduction cell"])
@pytest.mark.parametrize("weights_needed", [True, False])
def test_edges_are_side_by_side_up_to_the_limit_for_what_is_asked(weights_needed: bool, reductions: tuple) -> None:
    """The two ways round differently, so that float32 gradients tell them apart."""
    images = batch((2, 3, 16, 16), dtype=torch.float32)
    numbers_per_map = 2 * 4 * 16 * 16 // (2 if reductions else 1)

    def gradients(limit: int) -> Tensor:
        with seeded_initialisation(0):
            net = SuperNet(4, 1, 5, reductions=reductions).requires_grad_(weights_needed)
        backend = CpuBackend(SideBySideLimits(limit, -1) if weights_needed else SideBySideLimits(-1, limit))
        net.backend = lambda device, training: backend
        alphas = random_alphas(net.components, torch.float32)["reduce" if reductions else "normal"]
        loss = net(images, dict.fromkeys(net.components, alphas)).square().sum()
        return torch.autograd.grad(loss, alphas)[0]

    by_edge, side_by_side = gradients(0), gradients(10**9)
    assert not torch.equal(by_edge, side_by_side)
    assert torch.equal(gradients(numbers_per_map - 1), by_edge)
    assert torch.equal(gradients(numbers_per_map), side_by_side)


def test_evaluation_is_the_plain_network() -> None:
    net, plain = pair("auto", 4, 3, 3)
    images = batch((4, 3, 16, 16))
    for some in (net, plain):
        some(images)
        some.eval()
    assert difference([net(images)], [plain(images)]) < 1e-12


def test_layout_of_checkpoints_does_not_depend_on_the_backend() -> None:
    net, plain = pair("cpu_by_edge", 4, 2, 3)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert isinstance(copy.deepcopy(net)(batch((2, 3, 16, 16))), Tensor)


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="backend: 'magic'; allowed: auto, plain, gpu, cpu"):
        SuperNet(4, 2, 5, backend="magic")


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
        KernelGradient(images.detach(), stride=stride, dilation=dilation)(gradient, weight.detach()),
    ]
    assert difference(found, expected) < 1e-13


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize(
    ("stride", "dilation", "kernel"), [(1, 1, 3), (1, 1, 5), (1, 2, 5), (2, 1, 5), (2, 2, 3), (2, 2, 5)]
)
def test_depthwise_module_of_either_layout(stride: int, dilation: int, kernel: int, size: tuple[int, int]) -> None:
    assert_either_layout(DepthwiseConv(4, kernel, stride=stride, dilation=dilation), size)


def assert_either_layout(module: nn.Module, size: tuple[int, int]) -> None:
    """Channels-last gradients of channels-last maps, and the same numbers as channels-first."""
    module, found = module.double(), []
    for layout in (torch.contiguous_format, torch.channels_last):
        images = batch((5, 4, *size)).contiguous(memory_format=layout).requires_grad_()
        output = module(images)
        gradients = torch.autograd.grad((output * batch(output.shape, 3)).sum(), [images, *module.parameters()])
        assert gradients[0].is_contiguous(memory_format=layout)
        found.append([output, *gradients])
    assert difference(found[1], found[0]) < 1e-12


@pytest.mark.parametrize("size", [(8, 6), (6, 10)])
def test_factorized_reduce_of_either_layout(size: tuple[int, int]) -> None:
    module = FactorizedReduce(4, 6, affine=True)
    assert_either_layout(module, size)
    images = batch((5, 4, *size))
    halves = [
        F.conv2d(F.relu(images)[:, :, start:, start:], layer.weight, stride=2)
        for start, layer in ((0, module.even), (1, module.odd))
    ]
    assert difference([module(images)], [module.norm(torch.cat(halves, dim=1))]) < 1e-12


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_second_pixel_has_gradients_in_the_layout_of_the_maps(layout: torch.memory_format, start: int) -> None:
    images = batch((2, 4, 7, 6)).contiguous(memory_format=layout).requires_grad_()
    output = every_second(images, start)
    torch.testing.assert_close(output, images[:, :, start::2, start::2], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad((output * batch(output.shape, 1)).sum(), images)
    assert gradient.is_contiguous(memory_format=layout)
    expected = torch.zeros_like(images)
    expected[:, :, start::2, start::2] = batch(output.shape, 1)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_gradients_behind_a_concatenation_lie_together() -> None:
    parts = [
        batch((2, 4, 6, 6), seed).contiguous(memory_format=torch.channels_last).requires_grad_() for seed in (0, 1)
    ]
    seen = dict.fromkeys((0, 1), torch.empty(0))
    whole = concatenated([part * 1 for part in parts])
    torch.testing.assert_close(whole, torch.cat(parts, dim=1), rtol=0, atol=0)
    factor = batch((2, 8, 6, 6), 2)
    for index, part in enumerate(parts):
        part.register_hook(lambda gradient, index=index: seen.update({index: gradient}))
    (whole * factor).sum().backward()
    for gradient, expected in zip(seen.values(), factor.chunk(2, dim=1), strict=True):
        assert gradient.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    ("stride", "dilation", "size"), [(1, 1, (8, 6)), (1, 2, (8, 6)), (2, 1, (8, 6)), (1, 2, (2, 3))]
)
def test_convolutions_are_centred_by_their_sum(stride: int, dilation: int, kernel: int, size: tuple[int, int]) -> None:
    images, kernels = batch((2, 3, 4, *size)), batch((2, 4, 1, kernel, kernel), 1)
    geometry = {"stride": stride, "dilation": dilation}
    pixels = images[0, :, 0, ::stride, ::stride].numel()
    alike = centring_biases(sums_read_by_taps(sum_over_batch(images[0]).unsqueeze(2), **geometry), kernels, pixels)
    sums = torch.stack([sum_over_batch(part) for part in images], dim=2)
    each = centring_biases(sums_read_by_taps(sums, **geometry), kernels, pixels)
    for weight, bias, of_first, own in zip(kernels, each, alike, images, strict=True):
        assert convolve(own, weight, bias, **geometry).mean(dim=(0, 2, 3)).abs().max() < 1e-14
        assert convolve(images[0], weight, of_first, **geometry).mean(dim=(0, 2, 3)).abs().max() < 1e-14


def test_folded_batch_norm_and_its_gradients() -> None:
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
        folded = FoldedBatchNorm.of(weights, means, covariance, norm.eps)
        torch.testing.assert_close(folded.mean[1], (inputs[1] @ weights[1].t()).mean(0))
        torch.testing.assert_close(folded.variance[1], (inputs[1] @ weights[1].t()).var(0, unbiased=False))
        found = torch.stack([x @ v.t() for x, v in zip(centred, folded.folded_weights(scale), strict=True)])
        torch.testing.assert_close(found, expected)
        cross = summed_products([product_in_parts(g, x) for g, x in zip(gradient, centred, strict=True)])
        result = folded.backward(scale, cross, rows)
        gradient -= gradient.mean(1, keepdim=True)
        input_gradients = result.of_inputs(list(gradient), centred)
    assert difference([*input_gradients, result.weights, result.scale], expected_gradients) < 1e-12


def test_normalise() -> None:
    matrix = batch((40, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Normalise.apply(x, 1e-5)[0], [matrix])
    result, mean, variance = Normalise.apply(matrix, 1e-5)
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
