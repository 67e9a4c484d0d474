"""Classifiers that are fixed to an equiangular tight frame (2203.09081, equation 1; LT-DARTS, 2411.06098)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.space.supernet import SuperNet
from tailnas.space.two_branch import TwoBranchSuperNet


def equiangular_frame(num_classes: int, features: int, generator: torch.Generator) -> Tensor:
    """K unit vectors with pairwise cosines -1 / (K - 1), which sum to 0: a simplex, turned at random; float64 (K, D).

    generator: on the CPU. Raises ValueError for one class, or more classes than D + 1.
    """
    if not 2 <= num_classes <= features + 1:
        raise ValueError(
            f"{features} features for {num_classes} equiangular classes; allowed: at least {num_classes - 1}"
        )
    k = num_classes
    # Helmert's basis of the vectors whose entries sum to 0, one column each: (K, K - 1)
    j = torch.arange(1, k, dtype=torch.float64)
    rows = torch.arange(k)[:, None]
    basis = ((rows < j).double() - j * (rows == j)) / (j * (j + 1)).sqrt()
    turn = torch.linalg.qr(torch.randn(features, k - 1, dtype=torch.float64, generator=generator)).Q
    return (k / (k - 1)) ** 0.5 * basis @ turn.T


class EquiangularClassifier(nn.Linear):
    """Scores scale * <f / ||f||, w_c> with the fixed vectors w_c of `frame` (K, D), without a bias."""

    def __init__(self, frame: Tensor, scale: float) -> None:
        super().__init__(frame.shape[1], frame.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(frame, requires_grad=False)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(features, dim=1), self.weight)


def fix_classifier(network: SuperNet | TwoBranchSuperNet, scale: float, generator: torch.Generator) -> None:
    """Puts equiangular classifiers in the place of the network's; both branches have the same frame and no bias.

    Raises ValueError where the network has fewer features than the frame needs.
    """
    names = ["classifier"] if isinstance(network, SuperNet) else ["instance_classifier", "class_classifier"]
    learned = getattr(network, names[0])
    frame = equiangular_frame(network.num_classes, learned.in_features, generator).to(learned.weight)
    for name in names:
        setattr(network, name, EquiangularClassifier(frame, scale))
    if isinstance(network, TwoBranchSuperNet):
        with torch.no_grad():
            network.bias.zero_()
        network.bias.requires_grad_(False)
