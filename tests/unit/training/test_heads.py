"""Head adaptation: each method by hand, and a backbone of which no bit changes (method: section 8)."""

from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from tailnas.data.device import DeviceImages
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.params import Adapt, load_params
from tailnas.space.genotype import DARTS_V1
from tailnas.space.network import Network, load_model, save_model
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.adaptation import adapt, halves_chooser
from tailnas.training.heads import HEAD_METHODS, head_method
from tailnas.training.heads.lws import ScaledHead
from tailnas.training.heads.task import Chooser
from tailnas.training.heads.tau_norm import TAUS, chosen_tau, tau_normalised
from tailnas.training.loop import Loop

CLASSES = 3
PRESET = load_params(Path(__file__).parents[3] / "presets" / "smoke.yaml")


def settings(**changes):
    return Adapt.model_validate({**PRESET.adapt.model_dump(), "epochs": 3, "batch_size": 8, **changes})


@pytest.fixture
def loop(tmp_path):
    return Loop("adapt test", tmp_path / "checkpoint.pt", tmp_path / "events", "none")


@pytest.fixture
def network():
    with seeded_initialisation(0):
        net = Network(DARTS_V1, 2, 3, CLASSES, in_channels=1)
    net.normalisation = (0.4,), (0.3,)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.add_(0.1)
        net.classifier.bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
    return net.train()


def images(seed=0, sizes=(16, 8, 4)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (sum(sizes), 1, 16, 16), generator=generator, dtype=torch.uint8)
    return DeviceImages(pixels, torch.arange(CLASSES).repeat_interleave(torch.tensor(sizes)))


def backbone(network):
    return {key: value.clone() for key, value in network.state_dict().items() if not key.startswith("classifier.")}


def test_methods_of_the_parameters():
    assert get_args(Adapt.model_fields["method"].annotation) == HEAD_METHODS
    with pytest.raises(ValueError, match="tau_norm"):
        head_method("prune")


@pytest.mark.parametrize("method", HEAD_METHODS)
def test_backbone_is_bit_identical_and_the_head_is_another(method, network, loop):
    before, head = backbone(network), network.classifier.weight.detach().clone()
    result = adapt(settings(method=method), network, images(), 0, loop)
    after = backbone(network)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert any(key.endswith("running_mean") for key in before)
    assert torch.equal(head, network.classifier.weight) == (method == "none")
    trained = method not in ("none", "tau_norm")
    assert [row["epoch"] for row in result.history] == ([1, 2, 3] if trained else [0])
    assert 0 <= result.history[-1]["balanced_accuracy"] <= 1 and not result.choice


@pytest.mark.parametrize("method", HEAD_METHODS)
def test_adapted_network_survives_its_file(method, network, loop, tmp_path):
    adapt(settings(method=method), network, images(), 0, loop)
    save_model(tmp_path / "model.safetensors", network, "abc", *network.normalisation)
    pixels = images(5).images
    assert torch.equal(load_model(tmp_path / "model.safetensors").predict(pixels), network.predict(pixels))


@pytest.mark.parametrize("method", ["reweight", "crt", "lws"])
def test_history_is_about_the_head_that_is_saved(method, network, loop):
    data = images()
    result = adapt(settings(method=method), network, data, 0, loop)
    predictions = network.predict(data.images).argmax(1)
    assert result.history[-1]["balanced_accuracy"] == balanced_accuracy(predictions, data.labels, CLASSES)


def test_crt_forgets_the_old_head(network, loop, tmp_path):
    results = []
    for run in range(2):
        with torch.no_grad():
            network.classifier.weight.add_(run)
        adapt(settings(method="crt"), network, images(), 0, Loop("adapt", tmp_path / f"{run}.pt", tmp_path, "none"))
        results.append(network.classifier.weight.detach().clone())
    assert torch.equal(*results)


def test_lws_learns_scales_and_nothing_else(network, loop):
    old = network.classifier.weight.detach().clone(), network.classifier.bias.detach().clone()
    head = ScaledHead(network.classifier)
    assert [name for name, _ in head.named_parameters()] == ["scale"] and head.scale.shape == (CLASSES,)
    features = torch.randn(5, network.classifier.in_features, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(features), network.classifier(features))
    adapt(settings(method="lws"), network, images(), 0, loop)
    scales = network.classifier.bias[[0, 2]] / old[1][[0, 2]]
    assert not torch.allclose(scales, torch.ones(2))
    full = network.classifier.weight / old[0]
    assert torch.allclose(full, full[:, :1], rtol=1e-4), "one factor for a whole class vector"
    torch.testing.assert_close(full[[0, 2], 0], scales)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_tau_norm_by_hand(tau, network, loop):
    old = network.classifier.weight.detach().clone()
    result = adapt(settings(method="tau_norm", tau=tau), network, images(), 0, loop)
    assert result.history[0]["tau"] == tau
    for new, vector in zip(network.classifier.weight, old, strict=True):
        norm = sum(float(x) ** 2 for x in vector) ** 0.5
        torch.testing.assert_close(new, vector / norm**tau)
    assert not bool(network.classifier.bias.any())


def test_tau_normalised_norms():
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert torch.linalg.vector_norm(tau_normalised(weight, 1.0), dim=1).tolist() == pytest.approx([1, 1, 0])
    assert torch.linalg.vector_norm(tau_normalised(weight, 2.0), dim=1).tolist() == pytest.approx([0.2, 2, 0])
    assert torch.equal(tau_normalised(weight, 0.0), weight)


def test_tau_is_the_best_on_the_images_to_choose_on():
    # scores are 4 f1 and 1 f2: with tau = 0 all images go to class 0, with tau = 1 to the side they lie on
    weight = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[1.0, 0.1], [1.0, 0.7], [0.9, 1.0], [0.5, 1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    tau, rows = chosen_tau(Chooser(5, lambda: (weight, features, labels)))
    assert [row["tau"] for row in rows] == list(TAUS) == [pytest.approx(step / 10) for step in range(21)]
    for row in rows:
        scores = features * torch.tensor([4.0 ** (1 - row["tau"]), 1.0])
        assert row["balanced_accuracy"] == balanced_accuracy(scores.argmax(1), labels, 2)
    best = [row["tau"] for row in rows if row["balanced_accuracy"] == 1.0]
    # class 1 wins its images from 4^(1 - tau) * 0.9 < 1 on
    assert tau == best[0] == 1.0


def test_too_few_images_to_choose_on():
    def never():
        raise AssertionError("nothing may be trained")

    assert chosen_tau(Chooser(4, never)) == (1.0, [])
    assert chosen_tau(None) == (1.0, [])


def test_tau_is_chosen_on_a_half_that_its_network_never_saw(network, loop, monkeypatch):
    """The second network is trained on the weight half alone, the architecture half only gives the features."""
    from tailnas.training import adaptation

    seen = []
    real = adaptation.retrain

    def spied(retraining, genotype, data, *rest):
        seen.append((genotype, data))
        return real(retraining, genotype, data, *rest)

    monkeypatch.setattr(adaptation, "retrain", spied)
    weights, architecture = images(1, (20, 9, 6)), images(2, (20, 8, 5))
    retraining = PRESET.retrain.model_copy(update={"epochs": 1, "channels": 2})
    tau_settings = settings(method="tau_norm")
    chooser = halves_chooser(tau_settings, retraining, network, weights, architecture, 0, loop)
    assert chooser.smallest_class == 5 and not seen
    before = backbone(network)
    result = adapt(tau_settings, network, images(), 0, loop, chooser)
    assert [(genotype, data) for genotype, data in seen] == [(network.genotype, weights)]
    assert len(result.choice) == 21
    assert all(torch.equal(before[key], value) for key, value in backbone(network).items())
    few = halves_chooser(tau_settings, retraining, network, weights, images(2, (20, 8, 4)), 0, loop)
    assert chosen_tau(few) == (1.0, []) and len(seen) == 1


def test_features_are_computed_once(network, loop, monkeypatch):
    calls = []
    real = Network.features
    monkeypatch.setattr(Network, "features", lambda self, batch: calls.append(len(batch)) or real(self, batch))
    adapt(settings(method="reweight"), network, images(), 0, loop)
    assert sum(calls) == 28


def test_reweight_by_hand(network, loop):
    """One epoch of one full batch is one step of SGD on the class-balanced loss."""
    data = images()
    network.eval()
    with torch.no_grad():
        features = network.features((data.images.float() / 255 - 0.4) / 0.3)
    weight = network.classifier.weight.detach().clone().requires_grad_()
    bias = network.classifier.bias.detach().clone().requires_grad_()
    raw = [(1 - 0.99) / (1 - 0.99**n) for n in (16, 8, 4)]
    class_weights = torch.tensor([3 * value / sum(raw) for value in raw])
    losses = F.cross_entropy(features @ weight.T + bias, data.labels, reduction="none")
    image_weights = class_weights[data.labels]
    ((image_weights * losses).sum() / image_weights.sum()).backward()
    chosen = settings(epochs=1, batch_size=28, beta=0.99, learning_rate=0.5, momentum=0.0, weight_decay=0.0)
    adapt(chosen, network, data, 0, loop)
    torch.testing.assert_close(network.classifier.weight, weight.detach() - 0.5 * weight.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network.classifier.bias, bias.detach() - 0.5 * bias.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "sampler"), [("reweight", "instance"), ("crt", "class_balanced"), ("lws", "class_balanced")]
)
def test_sampler_of_each_method(method, sampler, network, loop, monkeypatch):
    from tailnas.training.heads import task

    used = []
    real = task.make_sampler
    monkeypatch.setattr(task, "make_sampler", lambda name, *rest: used.append(name) or real(name, *rest))
    adapt(settings(method=method), network, images(), 0, loop)
    assert used == [sampler]
