"""Balanced contrastive learning, BCL (Zhu et al. 2022, 2207.09052; the details are those of the public code)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.retrain.contrast import Contrast, projector
from tailnas.retrain.settings import Contrastive


def balanced_contrastive_loss(views: Tensor, labels: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """The mean over the views z_i of the mean over z_p of their class of -log(e_ip / sum_c mean_(k of class c) e_ik).

    e_ik = exp(<z_i, z_k> / temperature). views: unit vectors (N, P) with labels (N,). A class has its views and its
    prototype, a row of the unit vectors (K, P), so that none is missing (class complement), and counts by their mean,
    so that none counts by its size (class averaging). No view is in contrast with itself.
    """
    classes = torch.cat([labels, torch.arange(len(prototypes), device=labels.device)])
    itself = torch.eye(len(views), len(classes), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == classes) & ~itself
    scores = (views @ torch.cat([views, prototypes]).T / temperature).masked_fill(itself, float("-inf"))
    others = torch.bincount(classes)[classes] - positive.long()  # of its own class an image itself does not count
    log_p = scores - torch.logsumexp(scores - others.to(scores).log(), dim=1, keepdim=True)
    return -(log_p.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()


class BalancedContrast(Contrast):
    """`balanced_contrastive_loss` of both views, with prototypes that a second projector makes of class vectors."""

    def __init__(self, settings: Contrastive, counts: Tensor, features: int) -> None:
        super().__init__()
        self.temperature = settings.temperature
        self.prototypes = projector(features, settings.hidden, settings.projection)

    def forward(self, views: tuple[Tensor, Tensor], labels: Tensor, classifier: nn.Linear) -> Tensor:
        prototypes = F.normalize(self.prototypes(classifier.weight).to(views[0]), dim=1)
        return balanced_contrastive_loss(torch.cat(views), labels.repeat(2), prototypes, self.temperature)
