"""Every loss family against a computation by hand (method: section 8)."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tailnas.imbalance.losses import LOSSES, class_balanced_weights, ldam_margins, make_loss
from tailnas.imbalance.losses.ldam import CosineClassifier
from tailnas.imbalance.losses.reweighting import MixedLabels, ReweightedLoss, deferred

COUNTS = [100, 20, 4]
SETTINGS = SimpleNamespace(focal_gamma=1.0, ldam_margin=0.5, ldam_scale=30.0, logit_adjustment_tau=1.0)


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
    if name == "balanced_softmax":
        scores = [score + math.log(n) for score, n in zip(scores, COUNTS, strict=True)]
    if name == "ldam":
        margin = 0.5 * (4 / COUNTS[label]) ** 0.25
        scores = [score - 30 * margin * (c == label) for c, score in enumerate(scores)]
    return -math.log(softmax(scores)[label])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_by_hand(name, weighted, batch):
    logits, labels = batch
    loss = make_loss(name, SETTINGS, COUNTS)
    weight = [0.2, 0.9, 1.9] if weighted else [1.0, 1.0, 1.0]
    given = torch.tensor(weight) if weighted else None
    singles = [weight[y] * by_hand(name, z, y) for z, y in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert loss(logits, labels, given, "none").tolist() == pytest.approx(singles, rel=1e-6)
    mean = sum(singles) / sum(weight[y] for y in labels.tolist())
    assert float(loss(logits, labels, given)) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_in_float32(name, batch):
    logits, labels = batch[0].float().requires_grad_(), batch[1]
    value = make_loss(name, SETTINGS, COUNTS)(logits, labels)
    value.backward()
    assert value.dtype == torch.float32 and bool(torch.isfinite(logits.grad).all()) and bool(logits.grad.any())


def test_cross_entropy_is_torchs_own(batch):
    logits, labels = batch[0].float(), batch[1]
    loss = ReweightedLoss(make_loss("cross_entropy", SETTINGS, COUNTS), beta=0.9999, drw=False)
    assert torch.equal(loss(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gamma(gamma, batch):
    logits, labels = batch
    settings = SimpleNamespace(**{**vars(SETTINGS), "focal_gamma": gamma})
    p = F.softmax(logits, 1)[range(7), labels]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    torch.testing.assert_close(make_loss("focal", settings, COUNTS)(logits, labels), expected)


def test_focal_of_a_certain_prediction_is_finite():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    for gamma in (0.0, 0.5, 1.0):
        settings = SimpleNamespace(**{**vars(SETTINGS), "focal_gamma": gamma})
        make_loss("focal", settings, COUNTS)(logits, torch.tensor([0])).backward()
        assert bool(torch.isfinite(logits.grad).all())


def test_ldam_margins_of_the_loss():
    assert make_loss("ldam", SETTINGS, COUNTS).margins.tolist() == pytest.approx(
        [0.5 * (4 / n) ** 0.25 for n in COUNTS], rel=1e-6
    )
    assert float(ldam_margins(COUNTS).max()) == 0.5


def test_ldam_scores_are_scaled_cosines_and_survive_as_a_linear_classifier():
    torch.manual_seed(0)
    loss = make_loss("ldam", SETTINGS, COUNTS)
    classifier = loss.training_classifier(nn.Linear(5, 3))
    assert isinstance(classifier, CosineClassifier) and classifier.bias is None
    features = torch.randn(4, 5)
    scaled = loss.feature_norm * F.normalize(features, dim=1)
    expected = 30 * F.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    torch.testing.assert_close(classifier(scaled), expected)
    with torch.no_grad():
        classifier.weight *= torch.tensor([[0.1], [3.0], [7.0]])
    plain = loss.trained_classifier(classifier)
    assert type(plain) is nn.Linear and not bool(plain.bias.any())
    torch.testing.assert_close(plain(scaled), expected)


def test_ldam_leaves_an_auxiliary_head_its_cross_entropy(batch):
    logits, labels = batch
    loss = ReweightedLoss(make_loss("ldam", SETTINGS, COUNTS), beta=0.9999, drw=False)
    torch.testing.assert_close(loss.auxiliary(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment_is_in_the_bias(tau, batch):
    torch.manual_seed(1)
    settings = SimpleNamespace(**{**vars(SETTINGS), "logit_adjustment_tau": tau})
    loss = make_loss("logit_adjustment", settings, COUNTS)
    classifier = nn.Linear(4, 3)
    features = torch.randn(6, 4)
    before = classifier(features).detach()
    assert loss.training_classifier(classifier) is classifier
    priors = torch.tensor(COUNTS) / sum(COUNTS)
    torch.testing.assert_close(loss.trained_classifier(classifier)(features), before - tau * priors.log())
    logits, labels = batch
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels))


def test_logit_adjusted_loss_at_tau_one_is_balanced_softmax(batch):
    logits, labels = batch
    adjusted = logits + (torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)).log()
    value = make_loss("balanced_softmax", SETTINGS, COUNTS)(logits, labels)
    assert float(value) == pytest.approx(float(F.cross_entropy(adjusted, labels)), rel=1e-6)


@pytest.mark.parametrize(("epochs", "first"), [(200, 160), (10, 8), (5, 4), (7, 6), (1, 1), (2, 2)])
def test_deferred_weights_start_at_80_percent(epochs, first):
    assert [e for e in range(epochs) if not deferred(e, epochs)] == list(range(first, epochs))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("drw", [False, True])
def test_which_epochs_are_weighted(name, drw, batch):
    logits, labels = batch
    loss = make_loss(name, SETTINGS, COUNTS)
    reweighted = ReweightedLoss(loss, beta=0.99, drw=drw)
    weights = class_balanced_weights(COUNTS, 0.99)
    plain, weighted = loss(logits, labels), loss(logits, labels, weights)
    assert not torch.isclose(plain, weighted)
    for epoch, expected in ((0, False), (7, False), (8, True), (9, True)):
        reweighted.set_epoch(epoch, 10)
        in_use = expected if drw else name == "class_balanced"
        assert torch.equal(reweighted(logits, labels), weighted if in_use else plain)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("drw", [False, True])
def test_mixed_labels_by_hand(name, drw, batch):
    logits, labels = batch
    reweighted = ReweightedLoss(make_loss(name, SETTINGS, COUNTS), beta=0.99, drw=drw)
    reweighted.set_epoch(9, 10)
    weight = [1.0] * 3
    if drw or name == "class_balanced":
        weight = class_balanced_weights(COUNTS, 0.99).tolist()
    partners, share = labels.roll(1), torch.linspace(0, 1, 7, dtype=torch.float64)
    total = norm = 0.0
    for z, a, b, s in zip(logits.tolist(), labels.tolist(), partners.tolist(), share.tolist(), strict=True):
        total += s * weight[a] * by_hand(name, z, a) + (1 - s) * weight[b] * by_hand(name, z, b)
        norm += s * weight[a] + (1 - s) * weight[b]
    value = reweighted(logits, MixedLabels(labels, partners, share))
    assert float(value) == pytest.approx(total / norm, rel=1e-6)


def test_unknown_loss():
    with pytest.raises(ValueError, match="cross_entropy"):
        make_loss("hinge", SETTINGS, COUNTS)
