"""Exact differentiation through the weight step, and how errors are measured here."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


def relative_error(found: Tensor | Sequence[Tensor], wanted: Tensor | Sequence[Tensor]) -> float:
    """||found - wanted|| / ||wanted|| over all tensors together, in float64."""
    found = [found] if isinstance(found, Tensor) else list(found)
    wanted = [wanted] if isinstance(wanted, Tensor) else list(wanted)
    assert [t.shape for t in found] == [t.shape for t in wanted]
    left = torch.cat([t.detach().cpu().double().flatten() for t in found])
    right = torch.cat([t.detach().double().flatten() for t in wanted])
    assert right.norm() > 0
    return float((left - right).norm() / right.norm())


def gradient_through_step(
    network: nn.Module,
    training_loss: Callable[[Callable[..., Tensor]], Tensor],
    validation_loss: Callable[[Callable[..., Tensor]], Tensor],
    alphas: Sequence[Tensor],
    buffers: Mapping[str, Tensor],
    *,
    xi: float,
    momentum: float,
    weight_decay: float,
) -> list[Tensor]:
    """d/d alpha of L_val(w - xi (momentum v + grad_w L_train(w, alpha) + weight_decay w), alpha), by autograd alone.

    The losses take a callable that stands for the network, and read the alphas that are differentiated.
    """
    names, weights = zip(*network.named_parameters(), strict=True)
    gradient = torch.autograd.grad(training_loss(network), weights, create_graph=True)
    moved = {
        name: weight - xi * (momentum * buffers[name] + slope + weight_decay * weight)
        for name, weight, slope in zip(names, weights, gradient, strict=True)
    }
    return list(
        torch.autograd.grad(validation_loss(lambda *inputs: functional_call(network, moved, inputs)), list(alphas))
    )


def assert_all_close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float = 1e-8) -> None:
    """Every tensor within `tolerance` of its own norm; tensors under 1e-4 of the largest are measured against that."""
    assert found.keys() == wanted.keys()
    norms = {name: float(tensor.detach().double().norm()) for name, tensor in wanted.items()}
    floor = 1e-4 * max(norms.values())
    assert floor > 0
    for name, tensor in wanted.items():
        error = float((found[name].detach().cpu().double() - tensor.detach().cpu().double()).norm()) / max(
            norms[name], floor
        )
        assert error < tolerance, f"{name}: relative error {error:.2e}"
