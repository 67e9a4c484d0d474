"""Draws from Dirichlet distributions that can be differentiated and recorded (DrNAS, 2006.10355, section 3.2).

torch's own draws come from the device's generator. Here all randomness is noise that is drawn beforehand, on the CPU:
every device sees the same draws, a recorded step sees fresh ones, and a search that goes on after an interruption has
those that it would have had.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PROPOSALS = 6
"""Tries of each draw; each is accepted in at least 95 of 100 cases, and the first counts where none is (1 of 1e7)."""
NUMBERS = 2 * PROPOSALS + 1
"""Numbers of noise for each draw."""


def dirichlet_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Noise (NUMBERS, *shape) for one draw of that shape: normal numbers, and logarithms of uniform ones."""
    normal = torch.randn(PROPOSALS, *shape, generator=generator)
    uniform = 1 - torch.rand(PROPOSALS + 1, *shape, generator=generator)
    return torch.cat([normal, uniform.log()])


def dirichlet_draw(concentration: Tensor, noise: Tensor) -> Tensor:
    """One draw (E, P) from E Dirichlet distributions with concentrations (E, P) above 0, a function of the noise.

    Its gradient is that of implicit reparametrisation (1805.08498), as torch.distributions has it.
    """
    draw: Tensor = _Draw.apply(concentration, noise)
    return draw


class _Draw(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, concentration: Tensor, noise: Tensor) -> Tensor:
        exact = concentration.double()
        draw = log_gamma_draws(exact, noise.double()).softmax(-1).clamp(min=1e-30).to(concentration)
        ctx.save_for_backward(concentration, draw)
        return draw

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        concentration, draw = ctx.saved_tensors
        total = concentration.sum(-1, keepdim=True).expand_as(concentration)
        through = torch._dirichlet_grad(draw, concentration, total)
        return through * (gradient - (draw * gradient).sum(-1, keepdim=True)), None


def log_gamma_draws(shape: Tensor, noise: Tensor) -> Tensor:
    """Logarithms of Gamma(shape, 1) draws by the squeeze of Marsaglia and Tsang (2000), for shapes above 0.

    The draw is made for shape + 1 and brought to shape by a uniform number to the power of 1 / shape.
    """
    normal, log_uniform, log_boost = noise[:PROPOSALS], noise[PROPOSALS:-1], noise[-1]
    d = shape + 2 / 3
    cubed = (1 + normal / (9 * d).sqrt()) ** 3
    positive = cubed > 0
    log_cubed = cubed.clamp(min=1e-30).log()
    accepted = positive & (log_uniform < 0.5 * normal**2 + d - d * cubed + d * log_cubed)
    first = accepted.to(torch.uint8).argmax(0, keepdim=True)
    return d.log() + log_cubed.gather(0, first).squeeze(0) + log_boost / shape
