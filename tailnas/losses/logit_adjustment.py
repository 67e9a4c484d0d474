"""Post-hoc logit adjustment (Menon et al. 2020, 2007.07314, section 4.1)."""

import torch
from pydantic import Field
from torch import Tensor, nn

from tailnas.foundation.settings import NonNegative, Section
from tailnas.retrain.loss import Loss


class Settings(Section):
    """Cross-entropy with a classifier that is adjusted after training."""

    tau: NonNegative = Field(description="Factor tau of the log priors.")


class LogitAdjustment(Loss[Settings]):
    """Cross-entropy in training; afterwards z_c - tau log prior_c, written into the classifier's bias."""

    corrects_class_sizes = True

    def assumed_prior(self, drawn: Tensor) -> Tensor:
        return drawn / (self.counts / self.counts.min()).pow(self.settings.tau)

    @torch.no_grad()
    def trained_classifier(self, classifier: nn.Linear) -> nn.Linear:
        shift: Tensor = self.settings.tau * (self.counts / self.counts.sum()).log()
        classifier.bias.sub_(shift.to(classifier.bias))
        return classifier
