"""Focal loss over sigmoids (Cui et al. 2019, 1901.05555, section 4.3; Lin et al. 2017, 1708.02002).

With `retrain.reweighting: {when: always, divided_by: images, ...}` it is the class-balanced focal loss.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tailnas.foundation.settings import NonNegative, Section
from tailnas.retrain.loss import Loss


class Settings(Section):
    """The focal loss of one sigmoid per class."""

    gamma: NonNegative = Field(description="Exponent gamma of (1 - p)^gamma; 0 is the sigmoid cross-entropy.")


class SigmoidFocal(Loss[Settings]):
    """-sum_c (1 - p_c)^gamma log p_c with p_y = sigmoid(z_y) and p_c = 1 - sigmoid(z_c) for all other classes.

    The class weight of the label scales the whole sum. The classifier's bias starts at -log(K - 1), so that every class
    has probability 1 / K, and is spared by weight decay. Predictions go by the largest z, as everywhere.
    """

    def __call__(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        sign = 2 * F.one_hot(labels, logits.shape[1]).to(logits) - 1
        log_p, log_rest = F.logsigmoid(sign * logits), F.logsigmoid(-sign * logits)
        losses = -(torch.exp(self.settings.gamma * log_rest) * log_p).sum(dim=1)
        weights = torch.ones_like(losses) if weight is None else weight.to(losses)[labels]
        return weights * losses if reduction == "none" else (weights * losses).sum() / weights.sum()

    @torch.no_grad()
    def training_classifier(self, classifier: nn.Linear) -> nn.Linear:
        classifier.bias.fill_(-math.log(max(1, classifier.out_features - 1)))
        return classifier

    def undecayed(self, classifier: nn.Linear) -> Sequence[nn.Parameter]:
        return (classifier.bias,)
