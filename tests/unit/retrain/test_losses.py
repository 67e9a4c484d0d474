"""Every loss against a computation by hand (method: section 8)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tailnas.foundation.extensions import OneOf, names
from tailnas.imbalance.class_weights import class_balanced_weights
from tailnas.losses.ldam import CosineClassifier, ldam_margins
from tailnas.retrain.loss import make_loss
from tailnas.retrain.reweighting import MixedLabels, ReweightedLoss, deferred
from tailnas.retrain.settings import NeverReweighted, Reweighted

COUNTS = [100, 20, 4]
SETTINGS = {
    "cross_entropy": {},
    "focal": {"gamma": 1.0},
    "balanced_softmax": {},
    "ldam": {"margin": 0.5, "scale": 30.0},
    "logit_adjustment": {"tau": 1.0},
    "label_aware_smoothing": {"smoothing": {"largest": 0.4, "smallest": 0.1, "shape": "concave"}},
    "sigmoid_focal": {"gamma": 1.5},
}
WHEN = {
    "never": NeverReweighted(when="never"),
    "always": Reweighted(when="always", beta=0.99, divided_by="weights"),
    "deferred": Reweighted(when="deferred", beta=0.99, divided_by="weights"),
}


def loss_of(name, counts=COUNTS, **changes):
    section = {"name": name, **SETTINGS[name], **changes}
    return make_loss(OneOf("tailnas.losses", by="name").parse(section), counts)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 2, 1, 1, 0, 2, 0])


def softmax(scores):
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def by_hand(name, scores, label):
    """The unweighted loss of one image in plain floats."""
    if name == "focal":
        p = softmax(scores)[label]
        return -(1 - p) * math.log(p)
    if name == "sigmoid_focal":
        p = [1 / (1 + math.exp(-score)) for score in scores]
        p = [q if c == label else 1 - q for c, q in enumerate(p)]
        return -sum((1 - q) ** 1.5 * math.log(q) for q in p)
    if name == "balanced_softmax":
        scores = [score + math.log(n) for score, n in zip(scores, COUNTS, strict=True)]
    if name == "label_aware_smoothing":
        eps = 0.1 + 0.3 * math.sin(math.pi / 2 * (COUNTS[label] - 4) / 96)
        target = [1 - eps if c == label else eps / 2 for c in range(3)]
        return -sum(q * math.log(p) for q, p in zip(target, softmax(scores), strict=True))
    if name == "ldam":
        margin = 0.5 * (4 / COUNTS[label]) ** 0.25
        scores = [score - 30 * margin * (c == label) for c, score in enumerate(scores)]
    return -math.log(softmax(scores)[label])


def test_every_loss_is_here():
    assert tuple(sorted(SETTINGS)) == names("tailnas.losses")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_by_hand(name, weighted, batch):
    logits, labels = batch
    loss = loss_of(name)
    weight = [0.2, 0.9, 1.9] if weighted else [1.0, 1.0, 1.0]
    given = torch.tensor(weight) if weighted else None
    singles = [weight[y] * by_hand(name, z, y) for z, y in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert loss(logits, labels, given, "none").tolist() == pytest.approx(singles, rel=1e-6)
    mean = sum(singles) / sum(weight[y] for y in labels.tolist())
    assert float(loss(logits, labels, given)) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_in_float32(name, batch):
    logits, labels = batch[0].float().requires_grad_(), batch[1]
    value = loss_of(name)(logits, labels)
    value.backward()
    assert value.dtype == torch.float32 and bool(torch.isfinite(logits.grad).all()) and bool(logits.grad.any())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_class_without_images_is_refused(name):
    with pytest.raises(ValueError, match=r"^counts: .*allowed: "):
        loss_of(name, [3, 0])


def test_cross_entropy_is_torchs_own(batch):
    logits, labels = batch[0].float(), batch[1]
    loss = ReweightedLoss(loss_of("cross_entropy"), WHEN["never"])
    assert torch.equal(loss(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gamma(gamma, batch):
    logits, labels = batch
    p = F.softmax(logits, 1)[range(7), labels]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    torch.testing.assert_close(loss_of("focal", gamma=gamma)(logits, labels), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_class_balanced_focal_as_the_paper_has_it(gamma, batch):
    """1901.05555, equations 5 and 9, in plain floats: the label's weight on all terms, over the number of images."""
    logits, labels = batch
    beta = 0.9999
    effective = [(1 - beta**n) / (1 - beta) for n in COUNTS]
    weight = [len(COUNTS) / e / sum(1 / other for other in effective) for e in effective]
    total = 0.0
    for scores, y in zip(logits.tolist(), labels.tolist(), strict=True):
        for c, score in enumerate(scores):
            p = 1 / (1 + math.exp(-score if c == y else score))
            total -= weight[y] * (1 - p) ** gamma * math.log(p)
    settings = Reweighted(when="always", beta=beta, divided_by="images")
    value = ReweightedLoss(loss_of("sigmoid_focal", gamma=gamma), settings)(logits, labels)
    assert float(value) == pytest.approx(total / len(labels), rel=1e-6)
    if gamma == 0:
        one_hot = F.one_hot(labels, 3).double()
        plain = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / len(labels)
        torch.testing.assert_close(loss_of("sigmoid_focal", gamma=0.0)(logits, labels), plain)


def test_a_sigmoid_classifier_starts_at_one_in_k_and_its_bias_does_not_decay():
    loss = loss_of("sigmoid_focal")
    for classes in (2, 3):
        classifier = loss.training_classifier(nn.Linear(4, classes))
        torch.testing.assert_close(classifier.bias.sigmoid(), torch.full((classes,), 1 / classes))
    (undecayed,) = loss.undecayed(classifier)
    assert undecayed is classifier.bias and loss_of("focal").undecayed(classifier) == ()


@pytest.mark.parametrize("name", ["focal", "sigmoid_focal"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_of_a_certain_prediction_is_finite(name, gamma):
    logits = torch.tensor([[200.0, -200.0, -200.0]], requires_grad=True)
    loss_of(name, gamma=gamma)(logits, torch.tensor([0])).backward()
    assert bool(torch.isfinite(logits.grad).all())


def test_ldam_margins_of_counts():
    torch.testing.assert_close(ldam_margins([16, 1]), torch.tensor([0.25, 0.5]))
    for wrong in (0, -0.5, math.inf):
        with pytest.raises(ValueError, match="max_margin"):
            ldam_margins([16, 1], wrong)


def test_ldam_scores_are_scaled_cosines_and_survive_as_a_linear_classifier():
    torch.manual_seed(0)
    loss = loss_of("ldam")
    classifier = loss.training_classifier(nn.Linear(5, 3))
    assert isinstance(classifier, CosineClassifier) and classifier.bias is None
    torch.testing.assert_close(classifier.weight.norm(dim=1), torch.ones(3))
    features = torch.randn(4, 5)
    scaled = loss.feature_norm * F.normalize(features, dim=1)
    expected = 30 * F.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    torch.testing.assert_close(classifier(scaled), expected)
    with torch.no_grad():
        classifier.weight *= torch.tensor([[0.1], [3.0], [7.0]])
    plain = loss.trained_classifier(classifier)
    assert type(plain) is nn.Linear and not bool(plain.bias.any())
    torch.testing.assert_close(plain(scaled), expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_an_auxiliary_head_gets_the_same_loss_unless_it_needs_its_own_classifier(name, batch):
    logits, labels = batch
    loss = loss_of(name)
    expected = F.cross_entropy(logits, labels) if name == "ldam" else loss(logits, labels)
    torch.testing.assert_close(ReweightedLoss(loss, WHEN["never"]).auxiliary(logits, labels), expected)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment_is_in_the_bias(tau, batch):
    torch.manual_seed(1)
    loss = loss_of("logit_adjustment", tau=tau)
    classifier = nn.Linear(4, 3)
    features = torch.randn(6, 4)
    before = classifier(features).detach()
    assert loss.training_classifier(classifier) is classifier
    priors = torch.tensor(COUNTS) / sum(COUNTS)
    torch.testing.assert_close(loss.trained_classifier(classifier)(features), before - tau * priors.log())
    logits, labels = batch
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_logit_adjustment_divides_the_prior_that_it_has_seen(tau):
    """Balanced at tau = 1 where training drew the images as they are; a factor of all classes is of no account."""
    loss = loss_of("logit_adjustment", tau=tau)
    drawn = torch.tensor([float(count) for count in loss.counts], dtype=torch.float64)
    prior = loss.assumed_prior(drawn)
    torch.testing.assert_close(prior / prior.sum(), (wanted := drawn ** (1 - tau)) / wanted.sum(), check_dtype=False)


def test_logit_adjusted_loss_at_tau_one_is_balanced_softmax(batch):
    logits, labels = batch
    adjusted = logits + (torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)).log()
    value = loss_of("balanced_softmax")(logits, labels)
    assert float(value) == pytest.approx(float(F.cross_entropy(adjusted, labels)), rel=1e-6)


@pytest.mark.parametrize(("epochs", "first"), [(200, 160), (10, 8), (5, 4), (7, 6), (1, 1), (2, 2)])
def test_deferred_weights_start_at_80_percent(epochs, first):
    assert [e for e in range(epochs) if not deferred(e, epochs)] == list(range(first, epochs))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    ("when", "weighted_epochs"), [("never", []), ("always", list(range(10))), ("deferred", [8, 9])]
)
def test_which_epochs_are_weighted(name, when, weighted_epochs, batch):
    logits, labels = batch
    loss = loss_of(name)
    reweighted = ReweightedLoss(loss, WHEN[when])
    plain, weighted = loss(logits, labels), loss(logits, labels, class_balanced_weights(COUNTS, 0.99))
    assert not torch.isclose(plain, weighted)
    assert torch.equal(reweighted(logits, labels), weighted if when == "always" else plain), "before any epoch is told"
    for epoch in range(10):
        reweighted.set_epoch(epoch, 10)
        assert torch.equal(reweighted(logits, labels), weighted if epoch in weighted_epochs else plain)


def test_a_class_that_weighs_twice_counts_as_drawn_twice_as_often():
    drawn = torch.tensor(COUNTS, dtype=torch.float64)
    prior = ReweightedLoss(loss_of("cross_entropy"), WHEN["always"]).assumed_prior(drawn)
    weight = class_balanced_weights(COUNTS, 0.99).to(drawn)
    torch.testing.assert_close(prior / prior.sum(), drawn * weight / (drawn * weight).sum())


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("divided_by", ["weights", "images"])
def test_mixed_labels_by_hand(name, when, divided_by, batch):
    logits, labels = batch
    settings = WHEN[when]
    if when != "never":
        settings = settings.model_copy(update={"divided_by": divided_by})
    reweighted = ReweightedLoss(loss_of(name), settings)
    reweighted.set_epoch(9, 10)
    weight = [1.0] * 3 if when == "never" else class_balanced_weights(COUNTS, 0.99).tolist()
    partners, share = labels.roll(1), torch.linspace(0, 1, 7, dtype=torch.float64)
    total = norm = 0.0
    for z, a, b, s in zip(logits.tolist(), labels.tolist(), partners.tolist(), share.tolist(), strict=True):
        total += s * weight[a] * by_hand(name, z, a) + (1 - s) * weight[b] * by_hand(name, z, b)
        norm += s * weight[a] + (1 - s) * weight[b]
    value = reweighted(logits, MixedLabels(labels, partners, share))
    by_images = when != "never" and divided_by == "images"
    assert float(value) == pytest.approx(total / (7 if by_images else norm), rel=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_mixup_with_deferred_weights_is_the_mixture_of_two_weighted_means(name, batch):
    """With one share for the batch, as in mixup's own code: both means have the same sum of weights."""
    logits, labels = batch[0].clone().requires_grad_(), batch[1]
    loss, weight, partners = loss_of(name), class_balanced_weights(COUNTS, 0.99), batch[1].roll(3)
    reweighted = ReweightedLoss(loss, WHEN["deferred"])
    for epoch, expected_weight in [(7, None), (8, weight)]:
        reweighted.set_epoch(epoch, 10)
        mixed = reweighted(logits, MixedLabels(labels, partners, torch.full((7,), 0.3, dtype=torch.float64)))
        expected = 0.3 * loss(logits, labels, expected_weight) + 0.7 * loss(logits, partners, expected_weight)
        torch.testing.assert_close(mixed, expected)
        torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (mixed, expected)))
