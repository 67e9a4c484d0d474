"""Global and local mixture consistency, GLMC (Du et al. 2023, 2305.08661; the constants are those of the public code).

Each image is mixed with a partner in two ways, as a whole (mixup) and by a box (CutMix), with one share for both. Both
views are classified by two linear classifiers, and their features are to agree:

    alpha_t L_c + (1 - alpha_t) L_cb + gamma L_sim,    alpha_t = 1 - (epoch / epochs)^2
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailnas.foundation.seeding import seed_for, torch_generator
from tailnas.imbalance.mixing import epoch_time, mixing_ratio
from tailnas.imbalance.samplers import class_probabilities
from tailnas.retrain.branches import Source
from tailnas.retrain.image_mixing import beta_shares, blended, boxes, pasted
from tailnas.retrain.reweighting import MixedLabels, ReweightedLoss
from tailnas.retrain.settings import MixtureConsistency, Retrain
from tailnas.space.device import autocast
from tailnas.space.network import Network
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.supervised import TrainingBatches


class MixedViews:
    """Two views of each mixture: an image mixed with its partner, then another augmentation of both with a box.

    images, partners: two augmentations each of the same images. generator: on the CPU, for shares and boxes.
    """

    def __init__(
        self,
        images: tuple[TrainingBatches, TrainingBatches],
        partners: tuple[TrainingBatches, TrainingBatches],
        alpha: float,
        generator: torch.Generator,
    ) -> None:
        self.parts = (*images, *partners)
        self.alpha, self.generator = alpha, generator

    @property
    def steps_per_epoch(self) -> int:
        return self.parts[0].steps_per_epoch

    def epoch(self) -> Iterator[tuple[tuple[Tensor, Tensor], MixedLabels]]:
        """((global view, local view), labels) of the next pass; the share counts for both views, as in the code."""
        for (first, labels), (second, _), (partner, others), (other, _) in zip(
            *(part.epoch() for part in self.parts), strict=True
        ):
            shares = beta_shares(self.alpha, (len(first),), self.generator)
            edges = torch.stack(boxes(shares, (first.shape[2], first.shape[3]), self.generator)).to(first.device)
            share = shares.to(first)
            views = blended(first, partner, share), pasted(second, other, edges)
            assert isinstance(labels, Tensor) and isinstance(others, Tensor)
            yield views, MixedLabels(labels, others, share)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


class MixtureHeads(nn.Module):
    """A network with what its training alone needs: a second classifier, a projection and a prediction of features.

    The network's own classifier is that of the re-weighted loss, which predicts.
    """

    def __init__(self, network: Network, projection: int) -> None:
        super().__init__()
        features = network.classifier.in_features
        self.network = network
        self.classifier = nn.Linear(features, network.num_classes)
        self.projection = nn.Linear(features, projection)
        self.prediction = nn.Linear(projection, projection)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of the second classifier and of the network's, (N, K); projected and predicted features, (N, P)."""
        features = self.network.features(images)
        projected = self.projection(features)
        return self.classifier(features), self.network.classifier(features), projected, self.prediction(projected)


class MixtureViews:
    """The cumulative loss of both views, each summed over them, with the consistency of their features."""

    def __init__(
        self, settings: Retrain, network: Network, reweighted: ReweightedLoss, source: Source, seed: int
    ) -> None:
        assert isinstance(settings.branches, MixtureConsistency)
        self.settings, self.precision = settings.branches, settings.training.precision
        with seeded_initialisation(seed_for(seed, "retrain", "mixture heads")):
            self.heads = MixtureHeads(network, settings.branches.projection).to(network.classifier.weight.device)
        counts, exponent = reweighted.loss.counts, settings.branches.label_exponent
        self.weights = label_weights(counts, exponent).to(network.classifier.weight)
        self.partner_exponent, self.label_exponent = settings.branches.partner_exponent, exponent
        images, partners = (
            (source(branch, sampler)[0], source(branch, sampler, "second view")[0])
            for branch, sampler in (("", "instance"), ("partners", settings.branches.partner_exponent))
        )
        generator = torch_generator(seed, "retrain", "mixture views")
        self.batches: TrainingBatches = MixedViews(images, partners, settings.branches.alpha, generator)
        self.conventional = 1.0

    @property
    def module(self) -> nn.Module:
        return self.heads

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.conventional = mixing_ratio("parabolic", epoch_time(epoch, epochs, "start"))

    def assumed_prior(self, counts: Tensor) -> Tensor:
        """As instances and their partners come, in equal shares, and as the re-weighted loss weighs them."""
        drawn = class_probabilities("instance", counts) + class_probabilities(self.partner_exponent, counts)
        return drawn * label_weights(counts, self.label_exponent)

    def loss(self, views: tuple[Tensor, Tensor], targets: MixedLabels) -> tuple[Tensor, Tensor]:
        outputs = []
        for images in views:
            with autocast(images.device, self.precision):
                values = self.heads(images)
            outputs.append([value.float() if value.dtype != torch.float64 else value for value in values])
        ones = torch.ones_like(self.weights)
        conventional = sum(mixed_cross_entropy(output[0], targets, ones) for output in outputs)
        rebalanced = sum(mixed_cross_entropy(output[1], targets, self.weights) for output in outputs)
        (_, logits, projected_g, predicted_g), (_, _, projected_l, predicted_l) = outputs
        similarity = F.cosine_similarity(predicted_g, projected_l.detach()).mean()
        similarity = similarity + F.cosine_similarity(predicted_l, projected_g.detach()).mean()
        a, gamma = self.conventional, self.settings.consistency
        return a * conventional + (1 - a) * rebalanced - gamma * similarity, logits


def label_weights(counts: Tensor, exponent: float) -> Tensor:
    """Weights n_c^-exponent of classes with `counts` (K,) images, scaled to sum to K; float64 (K,)."""
    weights = counts.double().pow(-exponent)
    return weights * (len(weights) / weights.sum())


def mixed_cross_entropy(logits: Tensor, targets: MixedLabels, weights: Tensor) -> Tensor:
    """Mean over the images of -sum_c w_c q_c log p_c, q the mixed labels and `weights` (K,) of classes."""
    log_p = F.log_softmax(logits, dim=1)
    total = torch.zeros_like(targets.share)
    for labels, share in ((targets.labels, targets.share), (targets.partners, 1 - targets.share)):
        total = total - share * weights[labels] * log_p.gather(1, labels[:, None]).squeeze(1)
    return total.mean()
