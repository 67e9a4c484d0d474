"""Zero-cost proxies: what one batch tells of a network before it is trained; more is better for each.

    synflow(network, images)              1^T prod |theta| 1, summed over weights (2006.05467; as a ranker 2101.08134)
    snip(network, images, labels)         sum |g * theta| (1810.02340; 2101.08134)
    grad_norm(network, images, labels)    Euclidean norms of g, summed over layers (2101.08134)
    nwot(network, images)                 log |det K_H| of the binary ReLU codes (2006.04647, version 3)
    jacov(network, images)                spread of the input gradients' correlations (2006.04647, version 1)
    offset(network, images)               minus the squared length of the mean feature (a reading of our own)

g is the gradient of the cross-entropy of one batch, theta the weights of convolutions and linear layers, without
biases and BatchNorm. BatchNorm normalises by the batch, as in training (jacov: by constants that are the batch's
statistics); for synflow it is left as it is in eval mode,
which for a network that was just drawn divides by sqrt(1 + eps) and no more. Every function leaves the network as it
was, bit by bit: weights, gradients, running statistics, mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tailnas.space.network import Network
from tailnas.space.supernet import frozen_running_statistics

SMALL = 1e-5
"""k of jacov: keeps the logarithm and the reciprocal of an eigenvalue finite."""


def synflow(network: nn.Module, images: Tensor) -> float:
    """sum over weights of theta * dR/dtheta, R the sum of the outputs of |network| for one image of ones.

    All weights, biases and buffers take their absolute values meanwhile, in float64. images: for their shape alone.
    """
    with _kept(network):
        network.eval()
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.double().abs()
        weights = layer_weights(network)
        total = network(torch.ones(1, *images.shape[1:], dtype=torch.float64, device=images.device)).sum()
        gradients = torch.autograd.grad(total, weights, materialize_grads=True)
        return float(sum((w.detach() * g).sum() for w, g in zip(weights, gradients, strict=True)))


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """sum over weights of |g * theta|."""
    weights, gradients = _loss_gradients(network, images, labels)
    return float(sum((w.detach() * g).abs().sum() for w, g in zip(weights, gradients, strict=True)))


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """sum over layers of the Euclidean norm of g."""
    return float(sum(gradient.norm() for gradient in _loss_gradients(network, images, labels)[1]))


def nwot(network: nn.Module, images: Tensor) -> float:
    """log |det K_H|, K_H[i, j] the number of ReLUs that are on for both images i and j or off for both.

    Minus infinity where two images have one code.
    """
    with _kept(network), torch.no_grad(), ReluCodes() as codes:
        network.train()
        network(images)
    kernel = sum(_agreements(code) for code in codes.seen)
    assert isinstance(kernel, Tensor), "a network without ReLUs has no codes"
    return float(torch.linalg.slogdet(kernel.cpu()).logabsdet)


def jacov(network: nn.Module, images: Tensor) -> float:
    """-sum_i (log(s_i + k) + 1 / (s_i + k)), s the eigenvalues of the correlations between the images' gradients.

    Row i of the gradients is that of the sum of all outputs for image i; each row is centred. Rows that are constant
    correlate with nothing, themselves included. The batch's statistics are constants of BatchNorm here (a reading):
    where a network ends in a BatchNorm, as cells without pooling do, the mean over images does not depend on them, and
    gradients through the statistics would be rounding errors.
    """
    with _kept(network):
        _keep_statistics(network, images)
        inputs = images.clone().requires_grad_(True)
        (rows,) = torch.autograd.grad(network(inputs).sum(), inputs)
    rows = rows.flatten(1).double()
    rows = F.normalize(rows - rows.mean(1, keepdim=True), dim=1)
    eigenvalues = torch.linalg.eigvalsh((rows @ rows.T).cpu()).clamp_min(0)
    return -float((torch.log(eigenvalues + SMALL) + 1 / (eigenvalues + SMALL)).sum())


def offset(network: Network, images: Tensor) -> float:
    """-|mean f|^2, f the features (N, D) that the classifier sees.

    A mean that all images share tells them not apart and makes the loss steep: the curvature of softmax regression
    along it grows with its square, and a rate at which other networks learn is too high.
    """
    with _kept(network), torch.no_grad():
        network.train()
        return -float(network.features(images).double().mean(0).square().sum())


PROXIES: dict[str, Callable[[Network, Tensor, Tensor], float]] = {
    "synflow": lambda network, images, labels: synflow(network, images),
    "snip": snip,
    "grad_norm": grad_norm,
    "nwot": lambda network, images, labels: nwot(network, images),
    "jacov": lambda network, images, labels: jacov(network, images),
    "offset": lambda network, images, labels: offset(network, images),
    "parameters": lambda network, images, labels: float(sum(weight.numel() for weight in network.parameters())),
}
"""Of a network, images (N, C, H, W) and labels (N,); `parameters`, their number, is what a proxy has to beat."""
FORWARD_ONLY = ("nwot", "offset", "parameters")
"""Proxies without a backward pass."""


def layer_weights(network: nn.Module) -> list[Tensor]:
    """Weights of all convolutions and linear layers, without biases."""
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


class ReluCodes(TorchFunctionMode):
    """Which ReLUs are on, in `seen`: bool (N, units) of each call inside, be it of a module or of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (F.relu, torch.relu, Tensor.relu):
            self.seen.append((output > 0).flatten(1))
        return output


def _agreements(code: Tensor) -> Tensor:
    """float64 (N, N): units in which two rows of bool (N, units) agree."""
    on = code.double()
    return on @ on.T + (1 - on) @ (1 - on).T


def _loss_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Weights of all layers, and the gradients of the batch's mean cross-entropy for them."""
    with _kept(network):
        network.train()
        weights = layer_weights(network)
        loss = F.cross_entropy(network(images), labels)
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    return weights, gradients


@torch.no_grad()
def _keep_statistics(network: nn.Module, images: Tensor) -> None:
    """Puts a network into eval mode with the BatchNorm statistics of this batch; for use inside `_kept`."""

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    network.eval()
    network(images)
    for hook in hooks:
        hook.remove()


@contextmanager
def _kept(network: nn.Module) -> Iterator[None]:
    """Whatever happens to weights, buffers and mode inside, they are as before afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    tensors = [(tensor, tensor.data) for tensor in (*network.parameters(), *network.buffers())]
    for tensor, held in tensors:
        tensor.data = held.clone()
    try:
        with frozen_running_statistics(network):
            yield
    finally:
        for tensor, held in tensors:
            tensor.data = held
        for module, training in modes:
            module.training = training
