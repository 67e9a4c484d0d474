"""The bilevel search: alphas on the architecture half, weights on the weight half, in turn (method: section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tailnas.data.split_file import Half
from tailnas.search.architecture_gradient import first_order, second_order
from tailnas.search.objective import Batch, Objective
from tailnas.search.relaxation import component
from tailnas.search.settings import Bilevel as BilevelSettings
from tailnas.space.supernet import frozen_running_statistics
from tailnas.training.settings import NetworkTraining

BACKBONE_COMPONENTS = ("normal", "reduce")


class Bilevel:
    """One step of DARTS on any objective: `step(weight_batches, architecture_batches)`.

    Weights: SGD with momentum, gradient clipping. Alphas: Adam, one parameter group for each learning rate of its own
    (backbone, instance_head, class_head). Running statistics of BatchNorm follow the weight steps only, so that the
    network in eval mode never saw the architecture half.

    alphas: leaf tensors (14, 8) on the network's device, moved in place, and further architecture parameters of the
    objective's relaxation. resting: the alphas stay as they are, and their loss is only measured.
    """

    def __init__(
        self,
        objective: Objective,
        alphas: Mapping[str, Tensor],
        training: NetworkTraining,
        settings: BilevelSettings,
    ) -> None:
        self.objective = objective
        self.alphas = dict(alphas)
        self.training, self.settings = training, settings
        self.resting = False
        for values in self.alphas.values():
            values.requires_grad_(True)
        if settings.freeze_backbone:
            for module in objective.backbone():
                module.requires_grad_(False)
        self.weights = [weight for weight in objective.network.parameters() if weight.requires_grad]
        device = self.weights[0].device
        on_gpu = device.type == "cuda"

        def rate(value: float) -> Tensor | float:
            return torch.tensor(value, device=device) if on_gpu else value

        self.weight_optimiser = torch.optim.SGD(
            self.weights,
            lr=rate(training.learning_rate),
            momentum=training.momentum,
            nesterov=training.nesterov,
            weight_decay=training.weight_decay,
            foreach=not on_gpu,
            fused=on_gpu,
        )
        groups: dict[str, list[Tensor]] = {}
        for name, values in self.alphas.items():
            of = component(name)
            groups.setdefault("backbone" if of in BACKBONE_COMPONENTS else of, []).append(values)
        beta1, beta2 = settings.architecture_betas
        self.alpha_optimiser = torch.optim.Adam(
            [
                {"params": params, "name": name, "lr": rate(settings.architecture_learning_rate)}
                for name, params in groups.items()
            ],
            betas=(beta1, beta2),
            weight_decay=settings.architecture_weight_decay,
            foreach=True,
            capturable=on_gpu,
        )

    def set_learning_rates(self, weights: float, alphas: Mapping[str, float]) -> None:
        """Learning rate of the weights, and of the alphas of `backbone`, `instance_head`, `class_head`."""
        _set_rate(self.weight_optimiser.param_groups[0], weights, self.weights[0].device)
        for group in self.alpha_optimiser.param_groups:
            _set_rate(group, alphas[group["name"]], self.weights[0].device)

    def step(self, weight_batches: tuple[Batch, ...], architecture_batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        """One alpha step, then one weight step. Returns the losses, detached; reading them would wait for a GPU."""
        architecture_loss = self.alpha_step(weight_batches, architecture_batches)
        return {"architecture_loss": architecture_loss, **self.weight_step(weight_batches)}

    def alpha_step(self, weight_batches: tuple[Batch, ...], architecture_batches: tuple[Batch, ...]) -> Tensor:
        """One Adam step of the alphas; returns the detached loss on the architecture half, without regulariser."""
        alphas = list(self.alphas.values())
        if self.resting:
            with frozen_running_statistics(self.objective.network), torch.no_grad():
                return self.objective.loss(architecture_batches, self.alphas, "architecture")["loss"]

        def loss_on(half: Half, batches: tuple[Batch, ...]) -> Callable[[], Tensor]:
            return lambda: self.objective.loss(batches, self.alphas, half)["loss"]

        with frozen_running_statistics(self.objective.network):
            if self.settings.order == "first":
                gradients, loss = first_order(loss_on("architecture", architecture_batches), alphas, self.weights)
            else:
                gradients, loss = second_order(
                    loss_on("weight", weight_batches),
                    loss_on("architecture", architecture_batches),
                    alphas,
                    self.weights,
                    learning_rate=self.weight_optimiser.param_groups[0]["lr"],
                    velocities=[self.weight_optimiser.state[w].get("momentum_buffer") for w in self.weights],
                    momentum=self.training.momentum,
                    weight_decay=self.training.weight_decay,
                )
        regulariser = self.objective.relaxation.regulariser(self.alphas)
        if regulariser is not None:
            more = torch.autograd.grad(regulariser, alphas, allow_unused=True, materialize_grads=True)
            gradients = [gradient + added for gradient, added in zip(gradients, more, strict=True)]
        for values, gradient in zip(alphas, gradients, strict=True):
            values.grad = gradient
        self.alpha_optimiser.step()
        return loss

    def weight_step(self, weight_batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        """One SGD step of the weights; returns the detached losses on the weight half."""
        fixed = {name: values.detach() for name, values in self.alphas.items()}
        losses = self.objective.loss(weight_batches, fixed)
        gradients = torch.autograd.grad(losses["loss"], self.weights)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if self.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, self.training.gradient_clip, foreach=True)
        self.weight_optimiser.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def parts(self) -> dict[str, Any]:
        """What a checkpoint has to carry."""
        return {
            "network": self.objective.network,
            "alphas": _TensorState(self.alphas),
            "weight_optimiser": self.weight_optimiser,
            "alpha_optimiser": self.alpha_optimiser,
        }


def _set_rate(group: dict[str, Any], value: float, device: torch.device) -> None:
    """On a GPU in place, so that a recorded step sees it; a restored checkpoint left its tensor on the CPU."""
    if device.type != "cuda":
        group["lr"] = value
    elif isinstance(group["lr"], Tensor) and group["lr"].device == device:
        group["lr"].fill_(value)
    else:
        group["lr"] = torch.tensor(value, device=device)


class _TensorState:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def state_dict(self) -> dict[str, Any]:
        return {name: values.detach() for name, values in self.tensors.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, values in self.tensors.items():
                values.copy_(state[name])


def mean_losses(steps: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Means over an epoch's steps of what `Bilevel.step` returned; of a search, this alone waits for a GPU."""
    return {name: float(torch.stack([step[name] for step in steps]).double().mean()) for name in steps[0]}
