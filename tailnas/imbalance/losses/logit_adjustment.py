"""Post-hoc logit adjustment (Menon et al. 2020, 2007.07314, section 4.1)."""

import torch
from torch import Tensor, nn

from tailnas.imbalance.losses.cross_entropy import CrossEntropy


class LogitAdjustment(CrossEntropy):
    """Cross-entropy in training; afterwards z_c - tau log prior_c, written into the classifier's bias."""

    @torch.no_grad()
    def trained_classifier(self, classifier: nn.Linear) -> nn.Linear:
        shift: Tensor = self.settings.logit_adjustment_tau * (self.counts / self.counts.sum()).log()
        classifier.bias.sub_(shift.to(classifier.bias))
        return classifier
