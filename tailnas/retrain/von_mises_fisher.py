"""Von Mises-Fisher distributions on the unit sphere, to machine precision for every dimension and concentration.

The density of unit vectors z in D dimensions is exp(kappa <mean, z>) / C(kappa), with
C(kappa) = (2 pi)^(D / 2) I_nu(kappa) / kappa^nu, nu = D / 2 - 1, I_nu the modified Bessel function of the first kind.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

LEAST_ORDER = 40.0
"""Below it, I_nu comes from higher orders: TERMS terms of the expansion are exact to rounding from here."""
TERMS = 9
LARGEST = 1e5
"""Concentrations of classes are at most this, as in ProCo's code: one image alone would have infinity."""


def log_scaled_bessel(order: float, x: Tensor) -> Tensor:
    """log(I_order(x) / x^order) for order >= 0 and x >= 0 of any size, float64 of the shape of x.

    The derivative for x, which autograd finds, is I_(order + 1)(x) / I_order(x).
    """
    x, steps = x.double(), max(0, math.ceil(LEAST_ORDER - order))
    value = _expansion(order + steps, x)
    if steps:
        # s = I_(n + 1) / (x I_n) of two neighbours by the expansion, then s_(n - 1) = 1 / (2 n + x^2 s_n) downwards
        s = torch.exp(_expansion(order + steps + 1, x) - value)
        for n in range(steps, 0, -1):
            s = 1 / (2 * (order + n) + x.square() * s)
            value = value - s.log()
    return value


def concentration(length: Tensor, dimension: int) -> Tensor:
    """R (D - R^2) / (1 - R^2), an estimate of kappa from the lengths R of mean unit vectors, at most LARGEST.

    Banerjee et al. 2005, equation 4.4; ProCo (2403.06726), section 3.2.
    """
    free = (1 - length.square()).clamp_min(torch.finfo(length.dtype).tiny)
    return (length * (dimension - length.square()) / free).clamp_max(LARGEST)


def log_expected_exponential(means: Tensor, kappas: Tensor, points: Tensor) -> Tensor:
    """log E exp(<p, z>), z drawn from each distribution: log C(|kappa mean + p|) - log C(kappa), float64 (N, K).

    means: unit vectors (K, D). kappas: (K,). points: p, (N, D), of any length.
    """
    order = means.shape[1] / 2 - 1
    means, kappas, points = means.double(), kappas.double(), points.double()
    squares = kappas.square() + 2 * kappas * (points @ means.T) + points.square().sum(1, keepdim=True)
    shifted = squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()
    return log_scaled_bessel(order, shifted) - log_scaled_bessel(order, kappas)


def _expansion(order: float, x: Tensor) -> Tensor:
    """log(I_order(x) / x^order) by the expansion that is uniform in x (Olver; DLMF 10.41.3)."""
    root = torch.sqrt(x.square() + order**2)
    t = order / root
    series = torch.stack([_polynomial(u, t) / order**k for k, u in enumerate(_COEFFICIENTS)]).sum(0)
    return root - order * torch.log(order + root) - 0.5 * torch.log(2 * math.pi * root) + torch.log(series)


def _polynomial(coefficients: list[float], t: Tensor) -> Tensor:
    value = torch.zeros_like(t)
    for coefficient in reversed(coefficients):
        value = value * t + coefficient
    return value


def _coefficients() -> list[list[float]]:
    """Coefficients of U_0 .. U_(TERMS - 1), by U_(k+1) = t^2 (1 - t^2) U_k' / 2 + int_0^t (1 - 5 s^2) U_k ds / 8."""
    u, found = [Fraction(1)], []
    for _ in range(TERMS):
        found.append([float(c) for c in u])
        following = [Fraction(0)] * (len(u) + 3)
        for power, c in enumerate(u):
            following[power + 1] += c * power / 2 + c / (8 * (power + 1))
            following[power + 3] -= c * power / 2 + 5 * c / (8 * (power + 3))
        u = following
    return found


_COEFFICIENTS = _coefficients()
