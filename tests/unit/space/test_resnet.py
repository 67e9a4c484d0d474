"""ResNet-32 in the place of a derived network."""

import pytest
import torch
import torch.nn.functional as F

from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import DARTS_V2, Genotype
from tailnas.retrain.width import fitted_channels, parameter_count
from tailnas.space.network import Network, load_model, save_model
from tailnas.space.supernet import seeded_initialisation

RESNET = Genotype(network="resnet32")
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(channels=4, classes=5, **options) -> Network:
    return Network(RESNET, channels, 7, classes, **options)


def test_published_size():
    """0.46 M parameters in the paper's table 6: 464,154 with a linear classifier for 10 classes."""
    network = build(16, 10)
    assert parameter_count(network) == 464_154
    weighted = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == 32


def test_maps_are_halved_twice():
    network = build()
    sizes = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    assert network(IMAGES).shape == (4, 5)
    assert sizes == [(4, 32, 32)] * 5 + [(8, 16, 16)] * 5 + [(16, 8, 8)] * 5


def test_a_block_whose_convolutions_are_nought_is_its_shortcut():
    """Option A: every second pixel, new channels of zeros around the old ones."""
    block = build().cells[5]
    torch.nn.init.zeros_(block.residual[-1].weight)
    maps = torch.rand(2, 4, 6, 6)
    expected = torch.zeros(2, 8, 3, 3)
    expected[:, 2:6] = maps[:, :, ::2, ::2]
    torch.testing.assert_close(block(maps, maps, []), expected)
    dropped = block(maps, maps, [torch.zeros(2, 1, 1, 1)])
    torch.testing.assert_close(dropped, expected)


def test_drop_path_branches_and_auxiliary_head():
    network = build(auxiliary=True).train()
    network.drop_path, network.drop_path_generator = 0.5, torch.Generator().manual_seed(0)
    logits, auxiliary = network(IMAGES)
    assert logits.shape == auxiliary.shape == (4, 5)
    two = build(branches=2)
    assert two.mixed_logits(IMAGES, IMAGES, 0.5).shape == (4, 5) and two.features(IMAGES).shape == (4, 32)


def plain_features(state, images, last):
    """ResNet-32 in training mode from its weights alone, ending in the block `last`: (N, 64)."""

    def normalised(maps, name):
        mean, var = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        return (maps - mean) / (var + 1e-5).sqrt() * scale + shift

    maps = normalised(F.conv2d(images, state["stem.0.weight"], padding=1), "stem.1").relu()
    for index in range(15):
        block = last if index == 14 else f"cells.{index}"
        stride = 2 if index in (5, 10) else 1
        inner = F.conv2d(maps, state[f"{block}.residual.0.weight"], stride=stride, padding=1)
        inner = F.conv2d(
            normalised(inner, f"{block}.residual.1").relu(), state[f"{block}.residual.3.weight"], padding=1
        )
        shortcut = maps
        if stride == 2:
            quarter = maps.shape[1] // 2
            shortcut = F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        maps = (normalised(inner, f"{block}.residual.4") + shortcut).relu()
    return maps.mean((2, 3))


def test_bbn_is_what_its_equations_say():
    """BBN (1912.02413, section 4): 14 blocks shared, the 15th once per branch, in float64.

    z = 2 (mu W_i f_i + (1 - mu) W_c f_c) + b, and the gradients of mu CE(z, y_i) + (1 - mu) CE(z, y_c).
    """
    mu = 0.3
    with seeded_initialisation(0):
        network = build(16, 10, branches=2).double().train()
        batch_i, batch_c = torch.randn(2, 6, 3, 16, 16, dtype=torch.float64)
    labels_i, labels_c = torch.arange(6), torch.arange(6).flip(0)

    def loss(z):
        return mu * F.cross_entropy(z, labels_i) + (1 - mu) * F.cross_entropy(z, labels_c)

    weights = dict(network.named_parameters())
    z = network.mixed_logits(batch_i, batch_c, mu)
    f_i, f_c = plain_features(weights, batch_i, "cells.14"), plain_features(weights, batch_c, "class_head")
    w_i, w_c = weights["classifier.weight"].split(64, dim=1)
    expected = 2 * (mu * f_i @ w_i.T + (1 - mu) * f_c @ w_c.T) + weights["classifier.bias"]
    torch.testing.assert_close(z, expected, rtol=1e-10, atol=1e-10)
    found, wanted = (torch.autograd.grad(loss(logits), list(weights.values())) for logits in (z, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("branches", [1, 2])
def test_a_file_gives_back_the_same_network(tmp_path, branches):
    network = build(branches=branches).eval()
    network.normalisation = (0.5,) * 3, (0.25,) * 3
    save_model(tmp_path / "model.safetensors", network)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.genotype == RESNET and torch.equal(loaded.predict(pixels), network.predict(pixels))


def test_it_is_narrowed_to_a_budget():
    channels = fitted_channels(build, 37_000)
    assert channels == (5, 9, 18) and abs(parameter_count(build(channels)) - 37_000) <= 0.05 * 37_000
    with pytest.raises(UserError, match=r"^retrain\.network\.parameters: 2600.*; allowed: within 5% of a size"):
        fitted_channels(build, 2_600)


def test_shortcuts_between_stages_of_equal_width_subsample():
    assert build((2, 2, 2))(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_its_genotype_is_its_name():
    assert Genotype.from_json(RESNET.to_json()) == RESNET and RESNET.components() == {}
    assert '"normal"' in DARTS_V2.to_json() and "network" not in DARTS_V2.to_json()
    for wrong in (
        '{"network": "resnet50"}',
        '{"network": null}',
        '{"network": "resnet32", "normal": []}',
        '{"network": []}',
    ):
        with pytest.raises(ValueError, match=r"^genotype.*; allowed: "):
            Genotype.from_json(wrong)
    with pytest.raises(ValueError, match=r"^genotype\.network: 'resnet32' beside cells; allowed: "):
        Genotype(DARTS_V2.normal, DARTS_V2.reduce, network="resnet32")
