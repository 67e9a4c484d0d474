import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.genotype.primitives import PRIMITIVES, edge_index
from tailnas.space.network import Network, load_model, save_model
from tailnas.space.operations import PoolNorm
from tailnas.space.supernet import SuperNet, seeded_initialisation
from tailnas.space.weights import read_weights, save_weights
from tests.unit.space.sharing import derived_network


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("genotype", "plain", "with_auxiliary"), [(DARTS_V1, 3_169_414, 3_645_840), (DARTS_V2, 3_349_342, 3_825_768)]
)
def test_parameter_counts_of_derived_networks(genotype: Genotype, plain: int, with_auxiliary: int) -> None:
    assert parameters(Network(genotype, 36, 20, 10)) == plain
    assert parameters(Network(genotype, 36, 20, 10, auxiliary=True)) == with_auxiliary


def small(genotype: Genotype = DARTS_V2, *, auxiliary: bool = False, in_channels: int = 1) -> Network:
    with seeded_initialisation(0):
        return Network(genotype, 4, 3, 10, auxiliary, in_channels)


def test_a_model_file_knows_whether_poolings_are_normalised(tmp_path: Path) -> None:
    images = torch.randn(4, 1, 16, 16)
    for pool_norm in (False, True):
        with seeded_initialisation(0):
            network = Network(DARTS_V2, 4, 3, 10, in_channels=1, pool_norm=pool_norm)
        network.train()(images)
        save_model(tmp_path / "model.safetensors", network)
        loaded = load_model(tmp_path / "model.safetensors")
        assert loaded.pool_norm is pool_norm
        assert any(isinstance(module, PoolNorm) for module in loaded.modules()) is pool_norm
        assert torch.equal(loaded(images), network.eval()(images))


def test_auxiliary_logits_in_training_only() -> None:
    network, images = small(auxiliary=True), torch.randn(2, 1, 32, 32)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (2, 10)
    assert network.eval()(images).shape == (2, 10)
    with pytest.raises(ValueError, match=r"^auxiliary head: map \(4, 4\); allowed: 8x8"):
        network.train()(torch.randn(2, 1, 16, 16))


def test_the_last_cell_is_the_instance_head() -> None:
    head = tuple(("skip_connect", source) for _ in range(4) for source in (0, 1))
    network = Network(Genotype(DARTS_V2.normal, DARTS_V2.reduce, head, head), 4, 4, 10, reductions=(1, 2))
    assert all(isinstance(operation, nn.Identity) for operation in network.cells[3].operations)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"^reductions: \(1, 3\); allowed: without the head cell 3"):
        Network(network.genotype, 4, 4, 10, reductions=(1, 3))


def test_logits_are_the_classifier_on_the_features() -> None:
    network, images = small().eval(), torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(network(images), network.classifier(network.features(images)))


def test_drop_path_drops_whole_paths_of_single_images() -> None:
    network, images = small(), torch.randn(4, 1, 16, 16)
    calm = network(images)
    network.drop_path = 0.5
    with pytest.raises(ValueError, match=r"^drop_path: 0\.5 without drop_path_generator"):
        network(images)
    network.drop_path_generator = torch.Generator().manual_seed(0)
    seen: list[torch.Tensor] = []
    for cell in network.cells:
        cell.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[2]))
    first = network(images)
    scales = torch.stack(seen)
    assert scales.shape == (sum(cell.droppable() for cell in network.cells), 4, 1, 1, 1)
    assert set(scales.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < scales.mean() / 2 < 0.7
    network.drop_path_generator.manual_seed(0)
    assert torch.equal(first, network(images)) and not torch.equal(first, calm)
    network.drop_path_generator = None
    assert network.eval()(images).shape == (4, 10)


def test_dropping_every_path_leaves_identities_only() -> None:
    network = small(DARTS_V1)
    cell = network.cells[0]
    state = torch.randn(2, 12, 8, 8)
    output = cell(state, state, [torch.zeros(2, 1, 1, 1)] * cell.droppable())
    older = cell.preprocess_older(state)
    # DARTS_V1: node 0 keeps no identity, nodes 1 and 2 add input 0, node 3 adds node 0
    torch.testing.assert_close(output, torch.cat([0 * older, older, older, 0 * older], dim=1))


class TestModelFile:
    classes = tuple("abcdefghij")

    def write(self, folder: Path) -> tuple[Path, Network]:
        network = small()
        for _ in range(3):
            network(torch.randn(8, 1, 16, 16))
        network.classes, network.normalisation = self.classes, ((0.25,), (0.5,))
        network.image_size, network.class_counts = 16, tuple(range(1, 11))
        network.prior, network.temperature = tuple(n / 55 for n in range(1, 11)), 1.5
        network.class_thresholds, network.miss = tuple(n / 10 for n in range(10)), 0.1
        save_model(folder / "model.safetensors", network)
        return folder / "model.safetensors", network

    def test_round_trip_and_prediction(self, tmp_path: Path) -> None:
        path, network = self.write(tmp_path)
        model = load_model(path)
        assert not model.training and model.classes == self.classes and model.normalisation == ((0.25,), (0.5,))
        assert model.image_size == 16 and model.class_counts == tuple(range(1, 11))
        assert (model.prior, model.temperature) == (network.prior, 1.5)
        assert (model.class_thresholds, model.miss) == (network.class_thresholds, 0.1)
        images = torch.randint(0, 256, (5, 1, 16, 16), dtype=torch.uint8)
        expected = (network.eval()((images.float() / 255 - 0.25) / 0.5) / 1.5).softmax(1)
        torch.testing.assert_close(model.predict(images), expected)
        torch.testing.assert_close(model.predict(images.numpy()), expected)
        torch.testing.assert_close(model.train().predict(images), expected)
        assert model.training

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"temperature": 0.0}, "temperature: 0.0"),
            ({"temperature": 21.0}, "temperature: 21.0"),
            ({"prior": [0.1] * 9}, "prior: 9 numbers of sum 0.9; allowed: 10 of sum 1"),
            ({"prior": [0.2] * 10}, "prior: 10 numbers of sum 2; allowed: 10 of sum 1"),
            ({"prior": [0.0, 0.2] + [0.1] * 8}, "prior.0: 0.0"),
            ({"class_thresholds": [0.1] * 9}, "class_thresholds: 9 numbers; allowed: 10, or none"),
            ({"class_thresholds": [1.1] * 10}, "class_thresholds.0: 1.1"),
            ({"miss": 1.0}, "miss: 1.0"),
            ({"miss": None}, "class_thresholds, miss: one of them; allowed: both or none"),
        ],
    )
    def test_what_a_file_says_of_its_probabilities_is_checked(self, tmp_path: Path, changes, said) -> None:
        path, _ = self.write(tmp_path)
        state, config = read_weights(path, kind="network")
        save_weights(path, state, config | changes)
        with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
            load_model(path)

    def test_a_file_says_where_its_network_reduces(self, tmp_path: Path) -> None:
        """Files from before reductions went by the whole depth have theirs at the same place as then."""
        network = Network(DARTS_V2, 4, 5, 10, in_channels=1, reductions=(1, 2)).eval()
        assert Network(DARTS_V2, 4, 5, 10, in_channels=1).reductions == (1, 3)
        save_model(tmp_path / "model.safetensors", network)
        model, images = load_model(tmp_path / "model.safetensors"), torch.randn(2, 1, 16, 16)
        assert model.reductions == (1, 2) and torch.equal(model(images), network(images))

    def test_bytes_are_a_function_of_the_content(self, tmp_path: Path) -> None:
        path, network = self.write(tmp_path)
        save_model(tmp_path / "again", network)
        assert path.read_bytes() == (tmp_path / "again").read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "model.safetensors"]

    @pytest.mark.parametrize("mask", [0o022, 0o077])
    def test_the_file_has_the_mode_that_the_umask_leaves(self, tmp_path: Path, mask: int) -> None:
        before = os.umask(mask)
        try:
            save_weights(tmp_path / "weights.safetensors", {"a": torch.ones(2)}, {"kind": "network"})
        finally:
            os.umask(before)
        assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask

    def test_the_auxiliary_head_is_left_out(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", small(auxiliary=True))
        assert load_model(tmp_path / "m").auxiliary_head is None

    @pytest.mark.parametrize(
        "images", [np.zeros((1, 1, 16, 16)), np.zeros((1, 3, 16, 16), np.uint8), np.zeros((1, 16, 16), np.uint8)]
    )
    def test_prediction_refuses_other_images(self, images: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"^images: .*; allowed: uint8 of shape \(N, 1, H, W\)$"):
            small().predict(images)

    @pytest.mark.parametrize("side", [8, 30, 32])
    def test_prediction_refuses_other_sizes_than_it_was_trained_on(self, tmp_path: Path, side: int) -> None:
        model = load_model(self.write(tmp_path)[0])
        with pytest.raises(ValueError, match=r"^images: .*; allowed: uint8 of shape \(N, 1, 16, 16\)$"):
            model.predict(np.zeros((1, 1, side, side), np.uint8))

    def test_damaged_files_are_named(self, tmp_path: Path) -> None:
        path, _ = self.write(tmp_path)
        state, config = read_weights(path)
        content = path.read_bytes()

        def error() -> str:
            with pytest.raises(UserError) as raised:
                load_model(path)
            message = str(raised.value)
            assert message.startswith(f"{path}: ") and "; allowed: " in message and "\n" not in message
            return message

        path.write_bytes(content[: len(content) // 2])
        assert "unreadable" in error()
        path.write_bytes(b"")
        assert "unreadable" in error()
        path.write_bytes(b"\xff" * 64)
        assert "unreadable" in error()
        path.unlink()
        assert "no such file" in error()
        save_weights(path, state, config | {"kind": "supernet"})
        assert "holds a supernet; allowed: a network" in error()
        save_weights(path, state, config | {"kind": "x" * 10**5})
        assert "holds a xxx" in error() and len(error()) < 300 + len(str(path))
        for name in ("=cmd|' /C calc'!A0", "\x1b[31m", self.classes[0], f"{self.classes[0]} "):
            save_weights(path, state, config | {"classes": [*self.classes[:-1], name]})
            assert "class" in error()
        save_weights(path, state, {})
        assert "metadata without an entry 'tailnas'" in error()
        save_weights(path, {k: v for k, v in state.items() if k != "stem.0.weight"}, config)
        assert "stem.0.weight is missing" in error()
        save_weights(path, state | {"more": torch.zeros(1)}, config)
        assert "more is not part" in error()
        save_weights(path, state | {"classifier.bias": torch.zeros(3)}, config)
        assert "classifier.bias has shape (3,); allowed: (10,)" in error()
        save_weights(path, state | {"classifier.bias": torch.full((10,), torch.nan)}, config)
        assert "classifier.bias holds NaN or a number beyond 1e+18" in error()
        save_weights(path, state | {"classifier.bias": torch.full((10,), 1e30)}, config)
        assert "classifier.bias holds NaN or a number beyond 1e+18" in error()
        for key, value in (
            *[("genotype", 3), ("channels", "4"), ("std", None), ("classes", 10), ("classes", "abcdefghij")],
            *[("std", [0.0]), ("std", [float("nan")]), ("mean", [1e308]), ("mean", [True]), ("feature_norm", "nan")],
            *[("feature_norm", float("nan")), ("feature_norm", -1.0), ("cells", 10_000), ("cells", 3.0)],
            *[("branches", 3), ("in_channels", 2**40), ("reductions", [-1]), ("more", 1)],
            *[("image_size", 10_000), ("temperature", 0.0), ("prior", [2.0] * 10), ("class_counts", [0] * 10)],
        ):
            save_weights(path, state, config | {key: value})
            assert f"{path}: {key}" in error()
        for change in ({"channels": [4, 8]}, {"cells": 999}):
            save_weights(path, state, config | change)
            assert "unusable description" in error()
        save_weights(path, state | {"stem.1.running_var": torch.full_like(state["stem.1.running_var"], -1)}, config)
        assert "stem.1.running_var holds a variance below 0" in error()
        save_weights(path, state | {"classifier.bias": torch.zeros(10, dtype=torch.int64)}, config)
        assert "classifier.bias is torch.int64; allowed: torch.float32" in error()
        save_weights(path, state, config | {"mean": [0.0, 0.0]})
        assert "mean, std: 2, 1 values; allowed: 1 each" in error()
        save_weights(path, state, {key: value for key, value in config.items() if key != "cells"})
        assert "cells: missing" in error()
        deep = json.dumps(config)[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}"
        path.write_bytes(save(state, metadata={"tailnas": deep}))
        assert "metadata" in error()

    @pytest.mark.parametrize("change", [{"channels": [4000, 8000, 16000]}, {"cells": 150, "reductions": [50, 100]}])
    def test_a_small_file_makes_nothing_large(self, tmp_path: Path, change: dict[str, Any]) -> None:
        path, _ = self.write(tmp_path)
        state, config = read_weights(path)
        save_weights(path, state, config | change)
        with torch.profiler.profile(profile_memory=True) as profile, pytest.raises(UserError):
            load_model(path)
        assert max(event.self_cpu_memory_usage for event in profile.events()) < 2**20

    def test_classes_of_other_data_are_named(self, tmp_path: Path) -> None:
        path, _ = self.write(tmp_path)
        assert load_model(path, self.classes).classes == self.classes
        with pytest.raises(UserError, match=rf"^{path}: 10 other classes; allowed: the 2 of the data$"):
            load_model(path, ["a", "b"])


def test_derived_network_is_the_super_network_with_one_hot_mixtures() -> None:
    """With one-hot mixtures on the kept edges, the super-network in eval mode is the derived network."""
    convolutional = (("sep_conv_3x3", 0), ("dil_conv_5x5", 1), ("skip_connect", 0), ("sep_conv_5x5", 2)) * 2
    genotype = Genotype(convolutional, tuple(reversed([*convolutional[:2]])) + convolutional[2:])
    with seeded_initialisation(1):
        net = SuperNet(4, 3, 10)
        for _ in range(3):
            net(torch.randn(8, 3, 16, 16))
        images = torch.randn(4, 3, 16, 16)
    alphas = {}
    for name, edges in genotype.components().items():
        alphas[name] = torch.full((14, 8), -torch.inf)
        alphas[name][:, 0] = 0.0
        for position, (primitive, source) in enumerate(edges):
            row = edge_index(position // 2, source)
            alphas[name][row, [0, PRIMITIVES.index(primitive)]] = torch.tensor([-torch.inf, 0.0])
    expected = net.eval()(images, alphas)
    torch.testing.assert_close(derived_network(genotype, net).eval()(images), expected, rtol=1e-4, atol=1e-4)
