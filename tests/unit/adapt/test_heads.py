"""Head adaptation: each method by hand, and a backbone of which no bit changes (method: section 8)."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tailnas.adapt.features import FeatureBatches
from tailnas.adapt.head_adaptation import adapt, halves_chooser
from tailnas.adapt.head_task import Chooser, HeadTask
from tailnas.adapt.settings import ADAPT
from tailnas.batches.device_images import DeviceImages
from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import names
from tailnas.foundation.seeding import torch_generator
from tailnas.foundation.yaml_file import read_yaml
from tailnas.genotype.genotype import DARTS_V1
from tailnas.heads.lws import ScaledHead
from tailnas.heads.max_norm import max_norm
from tailnas.heads.tau_norm import TAUS, chosen_tau, tau_normalised
from tailnas.imbalance.accuracy import balanced_accuracy
from tailnas.imbalance.samplers import make_sampler
from tailnas.retrain.settings import Retrain
from tailnas.space.network import Network, load_model, save_model
from tailnas.space.supernet import seeded_initialisation
from tailnas.training.loop import Loop

CLASSES = 3
METHODS = names("tailnas.heads")
TRAINING = {
    "epochs": 3,
    "batch_size": 8,
    "last_batch": "drop",
    "learning_rate": 0.05,
    "schedule": {"name": "cosine", "minimum": 0.0},
    "warmup": None,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.0005,
}
SMOOTHING = {"largest": 0.3, "smallest": 0.0, "shape": "concave"}


def method(name, **changes):
    """The head adaptation `name` with its settings, or changes of its training."""
    training = TRAINING | {key: changes.pop(key) for key in TRAINING.keys() & changes.keys()}
    own = {
        "reweight": {"beta": 0.9999, "training": training},
        "crt": {"sampler": "class_balanced", "training": training},
        "lws": {"sampler": "class_balanced", "training": training},
        "tau_norm": {"tau": None},
        "label_over_smooth": {"smoothing": 0.98, "training": training},
        "max_norm": {"beta": 0.9999, "radius": 0.1, "training": training},
        "mislas": {
            "smoothing": SMOOTHING,
            "classifier_rate": 0.5,
            "shift_batch_norm": False,
            "training": training,
        },
    }
    return ADAPT.parse({"method": name, **own.get(name, {}), **changes})


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


@pytest.mark.parametrize("name", METHODS)
def test_backbone_is_bit_identical_and_the_head_is_another(name, network, loop):
    before, head = backbone(network), network.classifier.weight.detach().clone()
    result = adapt(method(name), network, images(), 0, loop)
    after = backbone(network)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert any(key.endswith("running_mean") for key in before)
    assert torch.equal(head, network.classifier.weight) == (name == "none")
    trained = name not in ("none", "tau_norm")
    assert [row["epoch"] for row in result.history] == ([1, 2, 3] if trained else [0])
    assert 0 <= result.history[-1]["balanced_accuracy"] <= 1 and not result.choice


@pytest.mark.parametrize("name", METHODS)
def test_adapted_network_survives_its_file(name, network, loop, tmp_path):
    adapt(method(name), network, images(), 0, loop)
    save_model(tmp_path / "model.safetensors", network)
    pixels = images(5).images
    assert torch.equal(load_model(tmp_path / "model.safetensors").predict(pixels), network.predict(pixels))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (method("none"), (0.5, 0.3, 0.2)),
        (method("crt"), (1, 1, 1)),
        (method("tau_norm"), (1, 1, 1)),
        (method("reweight", beta=0.9), [n / (1 - 0.9**n) for n in (16, 8, 4)]),
        (method("max_norm", beta=0.9), [n / (1 - 0.9**n) for n in (16, 8, 4)]),
        (method("label_over_smooth", smoothing=0.4), [0.6 * n / 28 + 0.4 / 3 for n in (16, 8, 4)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_the_heads_probabilities_assume(chosen, expected, network, loop):
    network.prior = (0.5, 0.3, 0.2)
    adapt(chosen, network, images(), 0, loop)
    assert network.prior == pytest.approx([value / sum(expected) for value in expected])


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"none", "tau_norm"}))
def test_history_is_about_the_head_that_is_saved(name, network, loop):
    data = images()
    result = adapt(method(name), network, data, 0, loop)
    predictions = network.predict(data.images).argmax(1)
    assert result.history[-1]["balanced_accuracy"] == balanced_accuracy(data.labels, predictions, CLASSES)


def test_a_head_whose_predictions_are_not_finite_is_a_divergence(network, loop):
    nn.init.constant_(network.classifier.weight, 3e38)
    with pytest.raises(
        UserError, match=r"^adapt\.method: 'none': a prediction became (inf|nan); allowed: a retrained "
    ):
        adapt(method("none"), network, images(), 0, loop)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"none", "tau_norm"}))
@pytest.mark.parametrize("fault", ["learning_rate", "weight_decay"])
def test_a_head_that_diverges_in_its_only_epoch_names_the_key(name, fault, network, loop):
    with pytest.raises(UserError, match=rf"^adapt\.training\.{fault}: 1e\+30: .* became .*; allowed: "):
        adapt(method(name, epochs=1, **{fault: 1e30}), network, images(), 0, loop)


def test_a_progressive_sampler_advances_while_a_head_is_trained(loop):
    """Features say which class they are of; of 100:10:1 images the rarest class is drawn ever more often."""

    class Recording(nn.Linear):
        def forward(self, features):
            drawn.append(features.argmax(1))
            return super().forward(features)

    drawn = []
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor([100, 10, 1]))
    task = HeadTask(Recording(CLASSES, CLASSES), torch.eye(CLASSES)[labels], labels, 0, loop)
    training = method("crt", epochs=20, batch_size=37).settings.training
    task.train(task.head, training, "progressively_balanced")
    steps = [batch for batch in drawn if len(batch) == 37]
    late = torch.cat(steps[len(steps) // 2 :])
    assert 0.20 < float(late.eq(2).double().mean()) < 0.30, "1/4 over the last half, 1/111 without advance"


def test_crt_forgets_the_old_head(network, loop, tmp_path):
    results = []
    for run in range(2):
        with torch.no_grad():
            network.classifier.weight.add_(run)
        adapt(method("crt"), network, images(), 0, Loop("adapt", tmp_path / f"{run}.pt", tmp_path, "none"))
        results.append(network.classifier.weight.detach().clone())
    assert torch.equal(*results)


def test_lws_learns_scales_and_nothing_else(network, loop):
    old = network.classifier.weight.detach().clone(), network.classifier.bias.detach().clone()
    head = ScaledHead(network.classifier)
    assert [name for name, _ in head.named_parameters()] == ["scale"] and head.scale.shape == (CLASSES,)
    features = torch.randn(5, network.classifier.in_features, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(features), network.classifier(features))
    adapt(method("lws"), network, images(), 0, loop)
    scales = network.classifier.bias[[0, 2]] / old[1][[0, 2]]
    assert not torch.allclose(scales, torch.ones(2))
    full = network.classifier.weight / old[0]
    assert torch.allclose(full, full[:, :1], rtol=1e-4), "one factor for a whole class vector"
    torch.testing.assert_close(full[[0, 2], 0], scales)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_tau_norm_by_hand(tau, network, loop):
    old = network.classifier.weight.detach().clone()
    result = adapt(method("tau_norm", tau=tau), network, images(), 0, loop)
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
        assert row["balanced_accuracy"] == balanced_accuracy(labels, scores.argmax(1), 2)
    best = [row["tau"] for row in rows if row["balanced_accuracy"] == 1.0]
    # class 1 wins its images from 4^(1 - tau) * 0.9 < 1 on
    assert tau == best[0] == 1.0


def test_too_few_images_to_choose_on():
    def never():
        raise AssertionError("nothing may be trained")

    assert chosen_tau(Chooser(4, never)) == (1.0, [])
    assert chosen_tau(None) == (1.0, [])


def test_tau_is_chosen_on_a_half_that_its_network_never_saw(network, tmp_path):
    """The second network is trained on the weight half alone, the architecture half only gives the features."""
    document = read_yaml(Path(__file__).parents[3] / "presets" / "default.yaml")["retrain"]
    document["training"] |= {"epochs": 1, "batch_size": 8}
    document["network"] |= {"channels": 2}
    runs = iter(range(9))

    def chooser(weight_half, architecture_half):
        loop = Loop("retrain", tmp_path / f"{next(runs)}.pt", tmp_path / "events", "none")
        retraining = Retrain.model_validate(document)
        made = halves_chooser(retraining, network, weight_half, architecture_half, 0, loop)
        assert not loop.checkpoint.exists(), "nothing is trained before it is asked for"
        return made

    weight_half, architecture_half = images(1, (20, 9, 6)), images(2, (20, 8, 5))
    before = network.state_dict()
    before = {name: values.clone() for name, values in before.items()}
    one, other, third = (
        chooser(*halves).train()
        for halves in (
            (weight_half, architecture_half),
            (weight_half, images(3, (9, 8, 7))),
            (images(4, (20, 9, 6)), architecture_half),
        )
    )
    assert torch.equal(one[0], other[0]) and not torch.equal(one[0], third[0])
    assert torch.equal(one[2], architecture_half.labels) and len(one[1]) == 33 and len(other[1]) == 24
    assert all(torch.equal(network.state_dict()[name], values) for name, values in before.items())
    assert chooser(weight_half, architecture_half).smallest_class == 5

    result = adapt(
        method("tau_norm"),
        network,
        images(),
        0,
        Loop("adapt", tmp_path / "a.pt", tmp_path / "a", "none"),
        chooser(weight_half, architecture_half),
    )
    assert [row["tau"] for row in result.choice] == list(TAUS)
    assert result.choice == chosen_tau(Chooser(5, lambda: one))[1]
    few = chooser(weight_half, images(2, (20, 8, 4)))
    assert chosen_tau(few) == (1.0, [])


def test_features_are_computed_once(network, loop):
    passed = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    adapt(method("reweight"), network, images(), 0, loop)
    assert sum(passed) == 28


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
    chosen = method("reweight", beta=0.99, epochs=1, batch_size=28, learning_rate=0.5, momentum=0.0, weight_decay=0.0)
    adapt(chosen, network, data, 0, loop)
    torch.testing.assert_close(network.classifier.weight, weight.detach() - 0.5 * weight.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network.classifier.bias, bias.detach() - 0.5 * bias.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (method("reweight", beta=0.0, epochs=40), [16 / 28, 8 / 28, 4 / 28]),
        (method("crt", epochs=40), [1 / 3] * 3),
        (method("lws", epochs=40), [1 / 3] * 3),
        (method("max_norm", beta=0.0, radius=1.0, epochs=40), [16 / 28, 8 / 28, 4 / 28]),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_how_often_a_head_sees_each_class(chosen, expected, loop):
    """Of features that are all alike it learns nothing else."""
    head = nn.Linear(2, CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.5, 0.5]]))
        head.bias.copy_(torch.tensor([1.0, 1.0, 0.5]))
    labels = images().labels
    task = HeadTask(head, torch.ones(len(labels), 2), labels, 0, loop)
    chosen.module.adapt_head(task, chosen.settings)
    found = head(torch.ones(1, 2)).softmax(1)[0]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=0.06)


def two_epochs(name, head, features, labels, folder, **changes):
    """`head` after two epochs of one batch of all images each, in float64, and the rows of history."""
    chosen = method(name, epochs=2, batch_size=len(labels), learning_rate=0.5, weight_decay=0.1, **changes)
    task = HeadTask(head, features, labels, 0, Loop("adapt", folder / "c.pt", folder / "events", "none"))
    return chosen.module.adapt_head(task, chosen.settings).history


@pytest.fixture
def small():
    """A head and features in float64 of 12, 6 and 3 images."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(4, CLASSES).double()
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, 4, generator=generator) * torch.tensor([[3.0], [2.0], [0.5]]))
        head.bias.copy_(torch.tensor([1.0, 0.5, -0.5]))
    return head, torch.randn(21, 4, generator=generator).double(), torch.tensor([0] * 12 + [1] * 6 + [2] * 3)


def gradient_descent(groups, loss, epochs=2, after_step=lambda: None):
    """torch's SGD, one step per epoch along half a cosine, written down anew."""
    optimiser = torch.optim.SGD(groups, lr=0.5, momentum=0.9, weight_decay=0.1)
    factors = [group.get("factor", 1.0) for group in optimiser.param_groups]
    for rate in (0.5, 0.25)[:epochs]:
        for group, factor in zip(optimiser.param_groups, factors, strict=True):
            group["lr"] = factor * rate
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        after_step()


def test_label_over_smooth_by_hand(small, tmp_path):
    head, features, labels = small
    weight, bias = (values.detach().clone().requires_grad_() for values in (head.weight, head.bias))
    targets = torch.full((21, 3), 0.98 / 3).double()
    targets[range(21), labels] = 1 - 0.98 + 0.98 / 3
    assert 1 / 3 < float(targets.max()) < 0.36, "slightly more than 1 / K"
    gradient_descent([weight, bias], lambda: -(targets * (features @ weight.T + bias).log_softmax(1)).sum(1).mean())
    two_epochs("label_over_smooth", head, features, labels, tmp_path)
    torch.testing.assert_close(head.weight, weight)
    torch.testing.assert_close(head.bias, bias)


@pytest.mark.parametrize("radius", [0.0, 0.1, 1.0])
def test_max_norm_by_hand(radius, small, tmp_path):
    head, features, labels = small
    weight, bias = (values.detach().clone().requires_grad_() for values in (head.weight, head.bias))
    lengths = [float(vector.norm()) for vector in weight.detach()]
    longest = min(lengths) + radius * (max(lengths) - min(lengths))

    def project():
        with torch.no_grad():
            for vector in weight:
                if vector.norm() > longest:
                    vector *= longest / vector.norm()

    gradient_descent([weight, bias], lambda: F.cross_entropy(features @ weight.T + bias, labels), after_step=project)
    two_epochs("max_norm", head, features, labels, tmp_path, beta=0.0, radius=radius)
    torch.testing.assert_close(head.weight, weight)
    torch.testing.assert_close(head.bias, bias)
    assert max(float(vector.norm()) for vector in head.weight.detach()) <= longest * (1 + 1e-12)


def test_max_norm_projects_to_the_nearest_point_of_the_ball():
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(max_norm(weight, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert torch.equal(max_norm(weight, 5.0), weight)


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_mislas_by_hand(rate, small, tmp_path):
    """Two groups of parameters, each with a learning rate of its own, as in the public code."""
    head, features, labels = small
    weight, bias = (values.detach().clone().requires_grad_() for values in (head.weight, head.bias))
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
    drawn = make_sampler("class_balanced", labels, CLASSES, torch_generator(0, "adapt", "sampler"))
    eps = torch.tensor([0.3, 0.3 * math.sin(math.pi / 2 * 3 / 9), 0.0], dtype=torch.float64)

    def loss():
        rows = drawn.epoch(1, 21)[0]
        log_p = (scale * (features[rows] @ weight.T + bias)).log_softmax(1)
        targets = (eps[labels[rows]] / 2)[:, None].repeat(1, 3)
        targets[range(21), labels[rows]] = 1 - eps[labels[rows]]
        return -(targets * log_p).sum(1).mean()

    gradient_descent([{"params": [weight, bias], "factor": rate}, {"params": [scale]}], loss)
    two_epochs("mislas", head, features, labels, tmp_path, classifier_rate=rate)
    torch.testing.assert_close(head.weight, scale[:, None] * weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(head.bias, scale * bias, rtol=1e-6, atol=1e-7)


def test_shifted_batch_norm_has_the_statistics_of_class_balanced_batches(network, loop):
    """The first normalisation sees the stem's convolution: its mean and variance over the drawn images, by hand."""
    data, before = images(), backbone(network)
    drawn = make_sampler("class_balanced", data.labels, CLASSES, torch_generator(0, "adapt", "batch norm")).epoch(2, 14)
    adapt(method("mislas", shift_batch_norm=True, batch_size=14), network, data, 0, loop)
    after = backbone(network)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    maps = [network.stem[0]((data.images[rows].float() / 255 - 0.4) / 0.3).detach() for rows in drawn]
    mean, variance = (
        torch.stack([getattr(part.transpose(0, 1).flatten(1), kind)(1) for part in maps]).mean(0)
        for kind in ("mean", "var")
    )
    torch.testing.assert_close(after["stem.1.running_mean"], mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after["stem.1.running_var"], variance, rtol=1e-4, atol=1e-5)
    assert not network.training and all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", ["crt", "lws"])
@pytest.mark.parametrize(("last_batch", "sizes"), [("keep", [20, 20, 8]), ("drop", [20, 20])])
def test_classifier_balancing_passes_as_many_images_as_if_all_classes_were_the_largest(
    name, last_batch, sizes, network, loop
):
    """16, 8 and 4 images of three classes: 3 x 16 per epoch; steps are counted by the checkpoint's optimiser."""
    chosen = method(name, sampler="class_aware", last_batch=last_batch, batch_size=20, epochs=2)
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(28, 6, generator=generator), images().labels
    drawing = make_sampler("class_aware", labels, CLASSES, torch.Generator().manual_seed(0))
    batches = FeatureBatches(features, labels, drawing, 20, keep_last=last_batch == "keep")
    drawn = [part for _, part in batches.epoch()]
    assert [len(part) for part in drawn] == sizes and batches.steps_per_epoch == len(sizes)
    if last_batch == "keep":
        assert torch.cat(drawn).bincount().tolist() == [16, 16, 16]
    assert len(adapt(chosen, network, images(), 0, loop).history) == 2
