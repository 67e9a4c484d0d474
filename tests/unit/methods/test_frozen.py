"""The frozen reference from its file to its predictions, with small networks of random weights as pretrained ones."""

import hashlib
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from tailnas.adapt.head_adaptation import adapt, halves_chooser
from tailnas.adapt.settings import ADAPT
from tailnas.batches.device_images import Normalisation
from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import Genotype
from tailnas.methods import frozen
from tailnas.retrain.retraining import input_normalisation, retrain
from tailnas.space.frozen import FrozenCell
from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.network import load_model, save_model
from tailnas.training.loop import Loop
from tests.unit.small_search import CLASSES, PARAMS, images, search, settings_of

NAME = "shufflenet_v2_x0_5"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = models.get_model(NAME, weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    return net.eval()


def keys(path):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 64 * "0"
    return {"architecture": NAME, "weights": str(path), "sha256": sha256, "image_size": 32, "mean": MEAN, "std": STD}


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


def features_by_hand(network, pixels):
    """What torchvision's network sees before its classifier, of grey uint8 images (N, 1, H, W)."""
    seen = []
    hook = network.fc.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    colour = pixels.float().repeat(1, 3, 1, 1) / 255
    large = F.interpolate(colour, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        network((large - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("form", ["safetensors", "torch", "torch without counters"])
def test_genotype_to_predictions(form, network, file, make_task, tmp_path):
    """What the stages do: nothing is searched, the classifier is trained, the head adapted; then the file may go."""
    if form != "safetensors":
        file = tmp_path / "weights.pth"
        state = {k: v for k, v in network.state_dict().items() if form == "torch" or "num_batches" not in k}
        torch.save(state, file)
    found = search("frozen", make_task(), **keys(file))
    assert found.genotype == Genotype.from_json(found.genotype.to_json()) and found.cost.total_multiply_adds == 0

    data = images("frozen")
    training = PARAMS.retrain.training.model_copy(update={"epochs": 2, "batch_size": 8, "crop_padding": 0})
    shape = PARAMS.retrain.network.model_copy(update={"channels": None, "parameters": 66_000, "drop_path": 0.2})
    chosen = PARAMS.retrain.model_copy(update={"training": training, "network": shape})
    normalisation = input_normalisation(found.genotype, data.images)
    assert normalisation == Normalisation((0.0,), (1.0,))
    loop = Loop("retrain test", tmp_path / "retrain.pt", tmp_path / "events", "none")
    net, history = retrain(chosen, found.genotype, data, normalisation, CLASSES, 0, loop)
    assert len(history) == 2 and history[1]["loss"] < history[0]["loss"]
    own = net.cells[0].backbone.state_dict()
    assert own.keys() == {name for name in network.state_dict() if not name.startswith("fc.")}
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in own.items()), "it is as it was"
    torch.testing.assert_close(net.features(data.images / 255.0), features_by_hand(network, data.images))

    method = ADAPT.parse({"method": "tau_norm", "tau": None})
    adapting = Loop("adapt test", tmp_path / "adapt.pt", tmp_path / "events", "none")
    choosing = Loop("retrain half", tmp_path / "half.pt", tmp_path / "events", "none")
    result = adapt(method, net, data, 0, adapting, halves_chooser(chosen, net, data, images("half"), 0, choosing))
    assert 0 <= result.history[0]["balanced_accuracy"] <= 1
    save_model(tmp_path / "model.safetensors", net)
    file.unlink()
    loaded = load_model(tmp_path / "model.safetensors")
    assert torch.equal(loaded.predict(data.images), net.predict(data.images))
    expected = net.classifier(features_by_hand(network, data.images)).softmax(1)
    torch.testing.assert_close(loaded.predict(data.images), expected, rtol=1e-4, atol=1e-5)
    assert multiply_adds(loaded, 1, 16) > 800_000


def test_eval_mode_whatever_is_asked_for(file):
    cell = FrozenCell(Genotype.from_dict(genotype(file)).pretrained).train()
    assert not any(module.training for module in cell.modules())
    assert not any(weight.requires_grad for weight in cell.parameters())


def genotype(file):
    return {"network": "frozen", "pretrained": {"package": "torchvision", **keys(file)}}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", r"search\.frozen\.weights: .*: no such file; allowed: the weights"),
        ("other bytes", r"search\.frozen\.sha256: .*, but .* has .*; allowed: the checksum of the file"),
        ("not a file of weights", r"search\.frozen\.weights: .*: unreadable .*; allowed: a state dict"),
        ("pickled objects", r"search\.frozen\.weights: .*: unreadable .*; allowed: a state dict"),
        ("a list", r"search\.frozen\.weights: .*: not tensors by name alone; allowed: a state dict"),
        ("another network", r".*: the tensor conv1\.0\.weight is missing; allowed: "),
        ("another shape", r".*: the tensor conv5\.0\.weight has shape .*; allowed: \(1024, 192, 1, 1\)"),
    ],
)
def test_file_that_is_wrong_is_one_line(damage, said, network, file, make_task, tmp_path):
    given = keys(file)
    state = dict(network.state_dict())
    if damage == "missing":
        file.unlink()
    elif damage == "other bytes":
        file.write_bytes(file.read_bytes() + b" ")
    elif damage in ("not a file of weights", "pickled objects", "a list"):
        path = tmp_path / "weights.pth"
        if damage == "not a file of weights":
            path.write_bytes(b"nothing")
        else:
            torch.save([1, 2] if damage == "a list" else network, path)
        given = keys(path)
    else:
        if damage == "another network":
            state = {"weight": torch.zeros(2)}
        else:
            state["conv5.0.weight"] = torch.zeros(2, 192, 1, 1)
        save_file(state, file)
        given = keys(file)
    with pytest.raises(UserError, match=f"^{said}") as error:
        search("frozen", make_task(), **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("architecture", ["no_such_network", "squeezenet1_1", "raft_small"])
def test_architecture_that_does_not_serve(architecture, file, make_task):
    with pytest.raises(UserError, match=rf"^search\.frozen\.architecture: '{architecture}'; allowed: "):
        search("frozen", make_task(), **{**keys(file), "architecture": architecture})


def test_timm_is_an_extra(file, make_task, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^search\.frozen\.package: 'timm', which is not installed; allowed: "):
        search("frozen", make_task(), package="timm", **keys(file))


def test_timm_builds_the_network_and_names_its_classifier(file, network, make_task, monkeypatch):
    """A double of timm: networks know their classifier; nothing pretrained is asked for."""

    def create_model(name, pretrained):
        assert name == NAME and pretrained is False
        net = models.get_model(name, weights=None)
        net.get_classifier = lambda: net.fc
        return net

    timm = ModuleType("timm")
    timm.is_model, timm.create_model = lambda name: name == NAME, create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    found = search("frozen", make_task(), package="timm", **keys(file))
    cell = FrozenCell(found.genotype.pretrained)
    cell.load_weights()
    pixels = images("frozen").images
    torch.testing.assert_close(cell(None, pixels / 255.0, [])[:, :, 0, 0], features_by_hand(network, pixels))
    with pytest.raises(UserError, match=r"^search\.frozen\.architecture: 'other'; allowed: a network of timm"):
        search("frozen", make_task(), package="timm", **{**keys(file), "architecture": "other"})


def test_description_in_a_genotype_is_checked(file):
    content = genotype(file)
    assert Genotype.from_dict(content).pretrained.mean == tuple(MEAN)
    for changes in (
        {"architecture": "hf_hub:someone/something"},
        {"sha256": "0"},
        {"std": [0.0, 1.0, 1.0]},
        {"package": "x"},
    ):
        with pytest.raises(ValueError, match=rf"^genotype\.pretrained\.{next(iter(changes))}: .*; allowed: "):
            Genotype.from_dict({**content, "pretrained": {**content["pretrained"], **changes}})
    for wrong in ({**content, "network": "resnet32"}, {"network": "frozen"}, {**content, "pretrained": {}}):
        with pytest.raises(ValueError, match=r"^genotype\..*; allowed: "):
            Genotype.from_dict(wrong)
    assert frozen.Settings.model_fields.keys() == content["pretrained"].keys()
    pretrained = Genotype.from_dict(content).pretrained
    assert replace(pretrained, image_size=64) != pretrained and settings_of("frozen").weights is None
