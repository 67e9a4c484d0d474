"""The DARTS search step in plain PyTorch: alpha step, weight step, first and second order, one or two branches.

Written from the equations (1806.09055, equations 5 to 8; 1912.02413 for the mixed loss) on `benchmarks.plain_darts`.
Gradients are taken for what is asked and nothing else: the first-order alpha step for the alphas alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.plain_darts import Alphas, SearchNetwork, TwoBranchNetwork, without_running_statistics

Loss = Callable[[], Tensor]
Batch = tuple[Tensor, Tensor]


def plain_loss(network: SearchNetwork, alphas: Alphas, batch: Batch) -> Tensor:
    """Cross-entropy of one batch: images (N, C, H, W), labels (N,)."""
    images, labels = batch
    return F.cross_entropy(network(images, alphas), labels)


def mixed_loss(
    network: TwoBranchNetwork, alphas: Alphas, instance: Batch, classes: Batch, mixing_ratio: float, mix: str = "logits"
) -> Tensor:
    """mu CE(y_i) + (1 - mu) CE(y_c) of the mixed prediction for an instance-balanced and a reversed batch."""
    log_probabilities = network(instance[0], classes[0], alphas, mixing_ratio, mix)
    return mixing_ratio * F.nll_loss(log_probabilities, instance[1]) + (1 - mixing_ratio) * F.nll_loss(
        log_probabilities, classes[1]
    )


def first_order_gradient(validation_loss: Loss, alphas: Sequence[Tensor]) -> list[Tensor]:
    """grad_alpha L_val(w)."""
    return list(torch.autograd.grad(validation_loss(), alphas))


def second_order_gradient(
    training_loss: Loss,
    validation_loss: Loss,
    alphas: Sequence[Tensor],
    weights: Sequence[nn.Parameter],
    momentum_buffers: Sequence[Tensor | None],
    *,
    xi: float,
    momentum: float,
    weight_decay: float,
    radius: float = 0.01,
) -> list[Tensor]:
    """grad_alpha L_val(w') - xi (grad_alpha L_train(w+) - grad_alpha L_train(w-)) / (2 eps).

    w' = w - xi (momentum v + grad_w L_train + weight_decay w), w+- = w +- eps d with d = grad_w' L_val(w') and
    eps = radius / ||d||. The weights are as before when this returns.
    """
    count = len(alphas)
    saved = [weight.detach().clone() for weight in weights]
    training_gradient = torch.autograd.grad(training_loss(), weights)
    with torch.no_grad():
        for weight, gradient, buffer in zip(weights, training_gradient, momentum_buffers, strict=True):
            step = gradient + weight_decay * weight
            if buffer is not None:
                step = step + momentum * buffer
            weight.sub_(xi * step)
    gradients = torch.autograd.grad(validation_loss(), [*alphas, *weights])
    of_alphas, direction = gradients[:count], gradients[count:]
    epsilon = radius / torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(d) for d in direction]))

    def alpha_gradient_at(offset: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            for weight, origin, d in zip(weights, saved, direction, strict=True):
                weight.copy_(origin + offset * d)
        return torch.autograd.grad(training_loss(), alphas)

    above, below = alpha_gradient_at(epsilon), alpha_gradient_at(-epsilon)
    with torch.no_grad():
        for weight, origin in zip(weights, saved, strict=True):
            weight.copy_(origin)
    return [g - xi * (a - b) / (2 * epsilon) for g, a, b in zip(of_alphas, above, below, strict=True)]


@dataclass(frozen=True)
class Recipe:
    """Rates and decays of the search, as DARTS publishes them."""

    weight_lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3


class PlainSearch:
    """Alternates an alpha step on the architecture half with a weight step on the weight half."""

    def __init__(
        self, network: SearchNetwork | TwoBranchNetwork, alphas: Alphas, recipe: Recipe, second_order: bool = False
    ) -> None:
        self.network, self.alphas, self.recipe, self.second_order = network, alphas, recipe, second_order
        self.weights = list(network.parameters())
        self.weight_optimizer = torch.optim.SGD(
            self.weights, lr=recipe.weight_lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.alpha_optimizer = torch.optim.Adam(
            [{"params": [alpha], "name": name} for name, alpha in alphas.items()],
            lr=recipe.alpha_lr,
            betas=recipe.alpha_betas,
            weight_decay=recipe.alpha_weight_decay,
        )

    def set_alpha_rates(self, rates: dict[str, float]) -> None:
        """A learning rate for each component, as heterogeneous learning rates ask for."""
        for group in self.alpha_optimizer.param_groups:
            group["lr"] = rates[group["name"]]

    def set_weight_rate(self, rate: float) -> None:
        for group in self.weight_optimizer.param_groups:
            group["lr"] = rate

    @property
    def weight_rate(self) -> float:
        return float(self.weight_optimizer.param_groups[0]["lr"])

    def alpha_gradient(self, training_loss: Loss, validation_loss: Loss, radius: float = 0.01) -> list[Tensor]:
        """The gradient of this search's order; running statistics and weights stay as they are."""
        alphas = list(self.alphas.values())
        with without_running_statistics(self.network):
            if not self.second_order:
                return first_order_gradient(validation_loss, alphas)
            buffers = [self.weight_optimizer.state[weight].get("momentum_buffer") for weight in self.weights]
            return second_order_gradient(
                training_loss,
                validation_loss,
                alphas,
                self.weights,
                buffers,
                xi=self.weight_rate,
                momentum=self.recipe.momentum,
                weight_decay=self.recipe.weight_decay,
                radius=radius,
            )

    def step(self, training_loss: Loss, validation_loss: Loss) -> Tensor:
        """One alpha step, then one weight step; returns the training loss before the weight step."""
        for alpha, gradient in zip(
            self.alphas.values(), self.alpha_gradient(training_loss, validation_loss), strict=True
        ):
            alpha.grad = gradient
        self.alpha_optimizer.step()

        loss = training_loss()
        for weight, gradient in zip(self.weights, torch.autograd.grad(loss, self.weights), strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(self.weights, self.recipe.clip)
        self.weight_optimizer.step()
        return loss.detach()
