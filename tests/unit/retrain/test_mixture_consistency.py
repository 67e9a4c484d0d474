"""GLMC: its two views by hand, its loss against the equations in float64 (method: section 8)."""

import pytest
import torch
import torch.nn.functional as F

from tailnas.batches.augmentation import Augmentation
from tailnas.batches.batches import Batches
from tailnas.batches.device_images import Normalisation
from tailnas.genotype.genotype import DARTS_V1
from tailnas.imbalance.samplers import make_sampler
from tailnas.retrain.loss import make_loss
from tailnas.retrain.mixture_consistency import MixedViews, MixtureViews, label_weights
from tailnas.retrain.retraining import network_builder
from tailnas.retrain.reweighting import MixedLabels, ReweightedLoss
from tailnas.retrain.settings import NeverReweighted
from tailnas.space.network import Network, load_model, save_model
from tests.unit.retrain.test_retraining import CLASSES, GLMC, images, settings, trained

COUNTS = [15, 6, 3]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def source(data, sampler, rows, pixels):
    """Batches of 8, with the generator seeds of their rows and of their augmentation."""
    drawn = make_sampler(sampler, data.labels, CLASSES, generator(rows))
    return Batches(data, drawn, 8, Normalisation.of(data.images), Augmentation(2, True), generator(pixels))


def made(seed=0):
    data = images()
    pairs = [tuple(source(data, s, r + seed, r + p) for p in (10, 20)) for s, r in (("instance", 1), (0.8, 2))]
    return MixedViews(*pairs, alpha=1.0, generator=generator(5 + seed))


def test_views_are_mixtures_of_the_same_images_with_the_same_share():
    parts = [part.epoch() for part in made().parts]
    steps, boxes = 0, 0
    for ((global_view, local_view), targets), *plain in zip(made().epoch(), *parts, strict=True):
        (first, labels), (second, same_labels), (partner, others), (other, same_others) = plain
        assert torch.equal(labels, same_labels) and torch.equal(others, same_others)
        assert torch.equal(targets.labels, labels) and torch.equal(targets.partners, others)
        assert not torch.equal(first, second), "each view is augmented by itself"
        share = targets.share[:, None, None, None]
        torch.testing.assert_close(global_view, share * first + (1 - share) * partner)
        pasted = (local_view == other) & (local_view != second)
        assert bool(((local_view == second) | pasted).all())
        for image, s in zip(pasted[:, 0], targets.share.tolist(), strict=True):
            rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
            if len(rows):
                inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                assert float(inside.double().mean()) > 0.5, "a box"
                assert inside.numel() <= (1 - s) * 16 * 16 + 1e-6
                boxes += 1
        steps += 1
    assert steps == made().steps_per_epoch == 3 and boxes > 12


def test_restored_views_go_on(tmp_path):
    whole = made()
    list(whole.epoch())
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed = made(seed=100)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for ((one, two), targets), ((first, second), others) in zip(whole.epoch(), resumed.epoch(), strict=True):
        assert torch.equal(one, first) and torch.equal(two, second) and torch.equal(targets.share, others.share)


@pytest.fixture
def views():
    """In float64 and with the statistics of evaluation, so that a forward is a function of the images alone."""
    torch.set_default_dtype(torch.float64)
    try:
        chosen = settings(branches=GLMC)
        network = network_builder(chosen, DARTS_V1, CLASSES, 1)(2, False).eval()
        loss = ReweightedLoss(make_loss(chosen.loss, COUNTS), NeverReweighted(when="never"))
        asked = []

        def batches(*branch):
            asked.append(branch)
            return source(images(), branch[1], 0, 0), None

        views = MixtureViews(chosen, network, loss, batches, 0)
        assert [branch[1] for branch in asked] == ["instance", "instance", 0.8, 0.8]
        assert asked[0][0] == asked[1][0] != asked[2][0] == asked[3][0]
        views.heads.eval()
        yield views
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("epoch", "alpha"), [(0, 1.0), (3, 1 - 0.3**2), (9, 1 - 0.9**2)])
def test_loss_and_gradients_by_the_equations(epoch, alpha, views):
    inputs = torch.randn(2, 6, 1, 16, 16, generator=generator(0), dtype=torch.float64)
    targets = MixedLabels(
        torch.tensor([0, 0, 1, 2, 2, 1]), torch.tensor([2, 1, 1, 0, 2, 0]), torch.linspace(0.1, 0.9, 6)
    )
    views.set_epoch(epoch, 10)
    value, logits = views.loss(tuple(inputs), targets)

    share = targets.share[:, None]
    q = share * F.one_hot(targets.labels, 3) + (1 - share) * F.one_hot(targets.partners, 3)
    inverse = [1 / n for n in COUNTS]
    w = torch.tensor([3 * part / sum(inverse) for part in inverse])
    features = [views.heads.network.features(view) for view in inputs]
    expected = torch.zeros(())
    for f in features:
        expected = expected - alpha * (q * views.heads.classifier(f).log_softmax(1)).sum(1).mean()
        expected = expected - (1 - alpha) * (w * q * views.heads.network.classifier(f).log_softmax(1)).sum(1).mean()
    h = [views.heads.projection(f) for f in features]
    u = [views.heads.prediction(part) for part in h]
    for one, other in ((0, 1), (1, 0)):
        unit = u[one] / u[one].norm(dim=1, keepdim=True), (h[other] / h[other].norm(dim=1, keepdim=True)).detach()
        expected = expected - 10 * (unit[0] * unit[1]).sum(1).mean()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(logits, views.heads.network.classifier(features[0]))
    gradients = [torch.autograd.grad(loss, list(views.module.parameters())) for loss in (value, expected)]
    torch.testing.assert_close(*gradients)


def test_label_weights():
    assert label_weights(torch.tensor([4.0, 2.0, 1.0]), 1.0).tolist() == pytest.approx([3 / 7, 6 / 7, 12 / 7])
    assert label_weights(torch.tensor([4.0, 2.0, 1.0]), 0.0).tolist() == [1, 1, 1]


def test_what_is_trained_beside_the_network_is_not_kept(tmp_path):
    network, history = trained(settings(branches=GLMC, epochs=2), tmp_path)
    plain, _ = trained(settings(epochs=2), tmp_path / "plain")
    assert type(network) is Network and network.state_dict().keys() == plain.state_dict().keys()
    assert len(history) == 2 and {"loss", "accuracy"} <= history[0].keys()
    save_model(tmp_path / "model.safetensors", network)
    pixels = images().images
    assert torch.equal(load_model(tmp_path / "model.safetensors").predict(pixels), network.predict(pixels))
