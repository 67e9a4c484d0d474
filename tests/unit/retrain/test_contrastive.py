"""BCL and ProCo against their equations in float64, the Bessel functions and the expectation by other means."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.special import ive
from scipy.stats import vonmises_fisher

from tailnas.genotype.genotype import DARTS_V1
from tailnas.retrain.balanced_contrast import balanced_contrastive_loss
from tailnas.retrain.contrastive_views import VIEWS, ContrastiveViews
from tailnas.retrain.loss import make_loss
from tailnas.retrain.probabilistic_contrast import ClassMeans
from tailnas.retrain.retraining import network_builder
from tailnas.retrain.reweighting import ReweightedLoss
from tailnas.retrain.settings import NeverReweighted
from tailnas.retrain.von_mises_fisher import LARGEST, concentration, log_expected_exponential, log_scaled_bessel
from tailnas.space.network import Network
from tests.unit.retrain.test_mixture_consistency import source
from tests.unit.retrain.test_retraining import BCL, CLASSES, PROCO, images, settings, trained

COUNTS = torch.tensor([15, 6, 3])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=generator(seed), dtype=torch.float64), dim=1)


@pytest.mark.parametrize("order", [0, 0.5, 3, 39, 63, 127])
def test_bessel_functions_and_their_derivative(order):
    """Where scipy's do not underflow; at 0 the limit."""
    x = torch.tensor([0.5, 3.0, 40.0, 500.0, 1e5], dtype=torch.float64, requires_grad=True)
    value = log_scaled_bessel(order, x)
    scaled, next_one = (torch.from_numpy(ive(n, x.detach().numpy())) for n in (order, order + 1))
    there = (scaled > 1e-280) & (next_one > 1e-280)
    assert int(there.sum()) >= 3
    torch.testing.assert_close(value[there], (scaled.log() + x - order * x.log())[there], rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(slope[there], (next_one / scaled)[there], rtol=1e-9, atol=0)
    at_zero = -order * math.log(2) - math.lgamma(order + 1)
    assert float(log_scaled_bessel(order, torch.tensor(0.0))) == pytest.approx(at_zero, rel=1e-12)


@pytest.mark.parametrize(("dimension", "kappa", "length"), [(3, 2.0, 3.0), (6, 20.0, 5.0)])
def test_expected_exponential_is_the_mean_over_draws(dimension, kappa, length):
    mean, point = unit(2, dimension)
    draws = vonmises_fisher(mean.numpy(), kappa).rvs(100_000, random_state=0)
    estimate = torch.from_numpy(draws) @ (length * point)
    exact = log_expected_exponential(mean[None], torch.tensor([kappa]), length * point[None])
    deviation = float(estimate.exp().std() / estimate.exp().mean()) / math.sqrt(len(draws))
    assert float(exact) == pytest.approx(math.log(float(estimate.exp().mean())), abs=4 * deviation)


def test_concentration_is_that_of_drawn_vectors_and_bounded():
    draws = torch.from_numpy(vonmises_fisher([0, 0, 0, 1.0], 25.0).rvs(100_000, random_state=0))
    assert float(concentration(draws.mean(0).norm(), 4)) == pytest.approx(25, rel=0.02)
    assert concentration(torch.tensor([0.0, 1.0, 1.0001]), 4).tolist() == pytest.approx([0, LARGEST, LARGEST])


def test_class_means_are_those_of_this_epoch_and_the_one_before():
    torch.manual_seed(0)
    known = ClassMeans(3, 4).double()
    start = known.known_means.clone()
    assert start.norm(dim=1).tolist() == pytest.approx([0.9] * 3)
    first, second, third = unit(5, 4), unit(4, 4, seed=1), unit(3, 4, seed=2)
    known.start_epoch()
    known.update(first, torch.tensor([0, 0, 1, 0, 1]))
    torch.testing.assert_close(known.known_means[0], first[[0, 1, 3]].mean(0))
    known.update(second, torch.tensor([0, 1, 1, 1]))
    known.start_epoch()
    known.update(third, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(known.known_means[0], torch.cat([first[[0, 1, 3]], second[:1], third]).mean(0))
    torch.testing.assert_close(known.known_means[1], torch.cat([first[[2, 4]], second[1:]]).mean(0))
    torch.testing.assert_close(known.known_means[2], start[2])
    known.start_epoch()
    torch.testing.assert_close(known.known_means[0], third.mean(0)), "the epoch before the last is forgotten"


def test_balanced_contrast_by_the_equation():
    views, prototypes, labels, t = unit(6, 4), unit(3, 4, seed=1), torch.tensor([0, 0, 0, 1, 1, 0]), 0.3
    everything = [*zip(views, labels.tolist(), strict=True), *zip(prototypes, range(3), strict=True)]
    total = 0.0
    for i, (z, label) in enumerate(zip(views, labels.tolist(), strict=True)):
        others = [pair for k, pair in enumerate(everything) if k != i]
        by_class = [[math.exp(float(z @ other) / t) for other, c in others if c == klass] for klass in range(3)]
        below = sum(sum(values) / len(values) for values in by_class)
        own = by_class[label]
        total -= sum(math.log(value / below) for value in own) / len(own) / len(views)
    assert float(balanced_contrastive_loss(views, labels, prototypes, t)) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("chosen", [BCL, PROCO], ids=["bcl", "proco"])
def test_loss_is_that_of_the_classifier_and_the_contrast(chosen):
    """Two steps in float64, the second against means that know the first."""
    torch.set_default_dtype(torch.float64)
    try:
        of = settings(branches=chosen)
        network = network_builder(of, DARTS_V1, CLASSES, 1)(2, False).eval()
        asked = []

        def batches(*branch):
            asked.append(branch)
            return source(images(), branch[1], 0, 0), None

        loss = ReweightedLoss(make_loss(of.loss, COUNTS), NeverReweighted(when="never"))
        views = ContrastiveViews(of, network, loss, batches, 0)
        assert asked == [("", "instance", view) for view in VIEWS]
        heads, seen, start = views.heads, [], None
        if chosen is PROCO:
            start = heads.contrast.classes.known_means.clone()
        views.set_epoch(0, 2)
        for step, labels in enumerate([torch.tensor([0, 0, 1, 0]), torch.tensor([0, 1, 1, 0])]):
            inputs = torch.randn(12, 1, 16, 16, generator=generator(step))
            value, logits = views.loss(inputs, labels)
            features = network.features(inputs)
            expected = F.cross_entropy(network.classifier(features[:4]) + COUNTS.log(), labels)
            projected = F.normalize(heads.projector(features[4:]), dim=1)
            torch.testing.assert_close(logits, network.classifier(features[:4]))
            if chosen is BCL:
                prototypes = F.normalize(heads.contrast.prototypes(network.classifier.weight), dim=1)
                contrast = balanced_contrastive_loss(projected, labels.repeat(2), prototypes, 0.1)
            else:
                parts = []
                for view in projected.chunk(2):
                    seen += zip(view.detach(), labels.tolist(), strict=True)
                    scores = []
                    for c in range(CLASSES):
                        of_class = [z for z, label in seen if label == c]
                        mean = torch.stack(of_class).mean(0) if of_class else start[c]
                        r = float(mean.norm())
                        kappa = min(r * (4 - r**2) / max(1 - r**2, 1e-300), LARGEST)
                        shifted = (kappa * mean / r + view / 0.1).norm(dim=1)
                        log_c = [torch.special.i1e(k).log() + k - k.log() for k in (shifted, torch.tensor(kappa))]
                        scores.append(log_c[0] - log_c[1] + math.log(COUNTS[c]))
                    parts.append(F.cross_entropy(torch.stack(scores, 1), labels))
                contrast = sum(parts) / 2
            torch.testing.assert_close(value, expected + 0.7 * contrast)
            parameters = [weight for weight in views.module.parameters() if weight.requires_grad]
            found, by_hand = (
                torch.autograd.grad(total, parameters, materialize_grads=True)
                for total in (value, expected + 0.7 * contrast)
            )
            torch.testing.assert_close(found, by_hand)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("chosen", [BCL, PROCO], ids=["bcl", "proco"])
def test_what_is_trained_beside_the_network_is_not_kept(chosen, tmp_path):
    network, (row,) = trained(settings(branches=chosen), tmp_path)
    plain = network_builder(settings(), DARTS_V1, CLASSES, 1)(2, False)
    assert type(network) is Network and network.state_dict().keys() == plain.state_dict().keys()
    assert math.isfinite(row["loss"])
    assert network.prior == (1 / CLASSES,) * CLASSES, "log n_c is added in training alone"
