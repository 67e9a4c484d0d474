"""Probabilistic contrastive learning, ProCo (Du et al. 2024, 2403.06726; the details are those of the public code).

Each class is a von Mises-Fisher distribution of unit features. The contrast is with infinitely many draws from all of
them, of which the expectation is known in closed form: no batch need hold a class for it to be in contrast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.retrain.contrast import Contrast
from tailnas.retrain.settings import Contrastive
from tailnas.retrain.von_mises_fisher import concentration, log_expected_exponential

LENGTH = 0.9
"""Length of the random mean that a class has before its first image."""


class ClassMeans(nn.Module):
    """Mean features of the classes, of all that an epoch has shown so far (section 3.2, equation 13).

    Two estimates: `known` began with the epoch before and goes on in this one, `fresh` began with this one and takes
    its place in the next. A class that was not seen keeps the mean that it had.
    """

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        means = LENGTH * F.normalize(torch.randn(classes, dimension), dim=1)
        for name in ("known", "fresh"):
            self.register_buffer(f"{name}_means", means.clone())
            self.register_buffer(f"{name}_sizes", torch.zeros(classes))

    known_means: Tensor
    known_sizes: Tensor
    fresh_means: Tensor
    fresh_sizes: Tensor

    def start_epoch(self) -> None:
        self.known_means.copy_(self.fresh_means)
        self.known_sizes.copy_(self.fresh_sizes)
        self.fresh_sizes.zero_()

    @torch.no_grad()
    def update(self, views: Tensor, labels: Tensor) -> None:
        """Take in unit vectors (N, P) with labels (N,)."""
        rows = F.one_hot(labels, len(self.known_sizes)).to(views)
        more, sums = rows.sum(0), rows.T @ views
        for means, sizes in ((self.known_means, self.known_sizes), (self.fresh_means, self.fresh_sizes)):
            total = (sizes + more)[:, None]
            means.copy_(torch.where(total > 0, (sizes[:, None] * means + sums) / total.clamp_min(1), means))
            sizes.add_(more)


class ProbabilisticContrast(Contrast):
    """-log(n_y E_y / sum_c n_c E_c) with E_c = E exp(<z_i, z> / temperature), z drawn from class c (equation 20).

    The mean over the images and over both views, each of which is first taken into the classes' means.
    """

    def __init__(self, settings: Contrastive, counts: Tensor, features: int) -> None:
        super().__init__()
        self.temperature = settings.temperature
        self.classes = ClassMeans(len(counts), settings.projection)
        self.register_buffer("log_counts", counts.double().log(), persistent=False)

    log_counts: Tensor

    def start_epoch(self) -> None:
        self.classes.start_epoch()

    def forward(self, views: tuple[Tensor, Tensor], labels: Tensor, classifier: nn.Linear) -> Tensor:
        return torch.stack([self._one_view(view, labels) for view in views]).mean().to(views[0])

    def _one_view(self, view: Tensor, labels: Tensor) -> Tensor:
        self.classes.update(view, labels)
        means = self.classes.known_means.double()
        kappas = concentration(torch.linalg.vector_norm(means, dim=1), means.shape[1])
        scores = log_expected_exponential(F.normalize(means, dim=1), kappas, view.double() / self.temperature)
        return F.cross_entropy(scores + self.log_counts, labels)
