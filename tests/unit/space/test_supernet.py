import pytest
import torch
from torch import Tensor, nn

from tailnas.genotype.primitives import EDGES, NODES, PRIMITIVES, edge_index
from tailnas.space.operations import make_operation
from tailnas.space.pretrained import supernet, supernet_config, two_branch_supernet
from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet, frozen_running_statistics, initial_alphas, seeded_initialisation
from tailnas.space.two_branch import TwoBranchSuperNet, load_pretrained


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items() if "running" in key or "tracked" in key}


def seeded(builder, *args, seed: int = 0, **options):
    with seeded_initialisation(seed):
        return builder(*args, **options)


@pytest.mark.parametrize(("channels", "cells", "count"), [(16, 8, 1_930_618), (8, 5, 394_210), (4, 3, 72_854)])
def test_parameter_counts_of_the_search_network(channels: int, cells: int, count: int) -> None:
    assert parameters(SuperNet(channels, cells, 10)) == count


def test_shape_of_the_space() -> None:
    assert (NODES, EDGES, len(PRIMITIVES)) == (4, 14, 8)
    assert [edge_index(node, source) for node in range(NODES) for source in range(node + 2)] == list(range(EDGES))
    with pytest.raises(ValueError, match=r"^primitive: 'conv_7x7'; allowed: max_pool_3x3, "):
        make_operation("conv_7x7", 4, 1, affine=False, pool_norm=True)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("primitive", PRIMITIVES[1:])
def test_operations_divide_the_map_by_the_stride(primitive: str, stride: int) -> None:
    for search in (True, False):
        output = make_operation(primitive, 4, stride, affine=not search, pool_norm=search)(torch.randn(2, 4, 8, 8))
        assert output.shape == (2, 4, 8 // stride, 8 // stride)


def test_reduction_cells_halve_the_map_and_double_the_width() -> None:
    net = seeded(SuperNet, 4, 6, 10, backend="plain")
    assert net.reductions == (2, 4)
    maps, images = [], torch.randn(2, 3, 16, 16)
    for cell in net.cells:
        cell.register_forward_hook(lambda _, __, output: maps.append(tuple(output.shape[1:])))
    assert net(images).shape == (2, 10)
    assert maps == [(16, 16, 16)] * 2 + [(32, 8, 8)] * 2 + [(64, 4, 4)] * 2
    assert net.features(images).shape == (2, 64)


def test_reductions_can_be_given() -> None:
    net = SuperNet(4, 4, 10, 1, reductions=(1, 2))
    assert [cell.reduction for cell in net.cells] == [False, True, True, False]
    assert net(torch.randn(2, 1, 16, 16)).shape == (2, 10)


def test_mixture_is_the_weighted_sum_of_all_primitives() -> None:
    edge = seeded(SuperNet, 4, 3, 10).double().cells[0].edges[3]
    images, weights = torch.randn(2, 4, 8, 8).double(), torch.rand(8).double()
    expected = sum(weights[1 + k] * edge[name](images) for k, name in enumerate(PRIMITIVES[1:]))
    torch.testing.assert_close(edge(images, weights), expected)


def test_path_alphas_select_one_primitive() -> None:
    net = seeded(SuperNet, 4, 3, 10)
    images = torch.randn(2, 3, 16, 16)
    path = torch.full((EDGES, 8), -torch.inf)
    path[:, PRIMITIVES.index("none")] = 0.0
    with torch.no_grad():
        assert torch.equal(net.features(images, {"normal": path, "reduce": path}), torch.zeros(2, 64))


def test_no_alphas_weigh_all_primitives_equally() -> None:
    net, images = seeded(SuperNet, 4, 3, 10), torch.randn(2, 3, 16, 16)
    equal = {name: torch.full((EDGES, 8), 0.7) for name in net.components}
    torch.testing.assert_close(net(images), net(images, equal))


def test_initial_alphas_are_small_normal_draws_from_their_generator() -> None:
    alphas = initial_alphas(("normal", "reduce"), torch.Generator().manual_seed(3))
    again = initial_alphas(("normal", "reduce"), torch.Generator().manual_seed(3))
    assert list(alphas) == ["normal", "reduce"]
    for name, values in alphas.items():
        assert values.shape == (EDGES, 8) and values.dtype == torch.float32
        assert torch.equal(values, again[name])
        assert 5e-4 < values.std() < 2e-3
    assert not torch.equal(alphas["normal"], alphas["reduce"])


def test_initialisation_is_a_function_of_the_seed_and_spares_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    one, same, other = seeded(SuperNet, 4, 2, 10), seeded(SuperNet, 4, 2, 10), seeded(SuperNet, 4, 2, 10, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_frozen_running_statistics_change_nothing_but_the_statistics() -> None:
    net, images = seeded(SuperNet, 4, 3, 10), torch.randn(2, 3, 16, 16)
    before = running_statistics(net)
    with frozen_running_statistics(net):
        frozen = net(images)
    assert all(torch.equal(value, before[key]) for key, value in running_statistics(net).items())
    assert torch.equal(net(images), frozen)
    moved = running_statistics(net)
    assert all(not torch.equal(value, before[key]) for key, value in moved.items())
    net.eval()
    evaluated = net(images)
    with frozen_running_statistics(net):
        assert torch.equal(net(images), evaluated)


@pytest.mark.parametrize("branches", [1, 2])
def test_a_weights_file_says_what_network_it_is_of(branches: int) -> None:
    """L + 1 cells deep and reduced by that depth, whether the last cell is one or two heads."""
    build = supernet if branches == 1 else two_branch_supernet
    description = {
        "kind": "supernet",
        "branches": branches,
        "channels": 2,
        "cells": 5 if branches == 1 else 4,
        "reductions": [1, 3],
        "in_channels": 1,
        "classes": 7,
    }
    assert supernet_config(build(Space(channels=2, cells=4), 7, 1)) == description
    assert supernet_config(build(Space(channels=2, cells=4), 7, 1, partial=2)) == {**description, "partial": 2}


class TestTwoBranches:
    images = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(5))

    def net(self) -> TwoBranchSuperNet:
        return seeded(TwoBranchSuperNet, 4, 3, 10)

    def test_running_statistics_move_instance_batch_first(self) -> None:
        net, reference = self.net(), self.net()
        net(self.images[0], self.images[1], None, 0.3)
        for batch in self.images:
            reference.states(batch, {name: torch.full((EDGES, 8), 1 / 8) for name in net.components})
        for (key, value), expected in zip(
            running_statistics(net.cells).items(), running_statistics(reference.cells).values(), strict=True
        ):
            torch.testing.assert_close(value, expected, msg=key)
        assert net.instance_head.preprocess_newer.norm.num_batches_tracked == 1
        assert net.cells[0].preprocess_newer.norm.num_batches_tracked == 2

    @pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
    def test_logits_are_mixed_as_bbn_does(self, ratio: float) -> None:
        net = self.net()
        nn.init.normal_(net.bias)
        f_i, f_c = torch.randn(4, 64), torch.randn(4, 64)
        scores_i, scores_c = net.instance_classifier(f_i), net.class_classifier(f_c)
        logits = net.mixed(f_i, f_c, ratio, "logits")
        torch.testing.assert_close(logits, 2 * (ratio * scores_i + (1 - ratio) * scores_c) + net.bias)
        probabilities = ratio * (scores_i + net.bias).softmax(1) + (1 - ratio) * (scores_c + net.bias).softmax(1)
        mixed = net.mixed(f_i, f_c, torch.tensor(ratio), "probabilities")
        torch.testing.assert_close(mixed.exp(), probabilities)
        parameters = (net.instance_classifier.weight, net.class_classifier.weight, net.bias)
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(mixed.sum(), parameters))

    def test_unknown_mix_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"^mix: 'votes'; allowed: logits, probabilities$"):
            self.net().mixed(torch.zeros(1, 64), torch.zeros(1, 64), 0.5, "votes")

    def test_heads_take_their_own_alphas_and_batches(self) -> None:
        net = self.net()
        alphas = initial_alphas(net.components, torch.Generator())
        for value in alphas.values():
            value.requires_grad_()
        scores = net(self.images[0], self.images[1], alphas, 1.0)
        gradients = torch.autograd.grad(scores.square().sum(), list(alphas.values()))
        moved = {name: bool(g.abs().sum() > 0) for name, g in zip(alphas, gradients, strict=True)}
        assert moved == {"normal": True, "reduce": True, "instance_head": True, "class_head": False}

    def test_prediction_of_one_batch_at_one_half(self) -> None:
        net = self.net().eval()
        images = self.images[0]
        both = net(images, images, None, 0.5)
        torch.testing.assert_close(net.predict_logits(images, None), both)

    def test_pretrained_weights_start_both_heads_from_the_last_cell(self) -> None:
        net = self.net()
        source = seeded(SuperNet, 4, 4, 26, reductions=net.reductions, seed=9)
        own = {key: value.clone() for key, value in net.state_dict().items()}
        load_pretrained(net, source.state_dict())
        state, start = net.state_dict(), source.state_dict()
        for key, value in state.items():
            if "classifier" in key or key == "bias":
                assert torch.equal(value, own[key])
            elif "_head." in key:
                assert torch.equal(value, start[f"cells.3.{key.split('.', 1)[1]}"])
            else:
                assert torch.equal(value, start[key])

    def test_pretrained_weights_of_a_single_branch(self) -> None:
        net, source = seeded(SuperNet, 4, 3, 10), seeded(SuperNet, 4, 3, 26, seed=9)
        load_pretrained(net, source.state_dict())
        kept, start = (other.cells[2].edges[0]["sep_conv_3x3"].pointwise1.weight for other in (net, source))
        assert torch.equal(kept, start)
        assert net.classifier.weight.shape == (10, 64)

    @pytest.mark.parametrize(("channels", "cells", "message"), [(8, 4, "has shape"), (4, 5, "one of the two")])
    def test_pretrained_weights_of_another_shape_are_refused(self, channels: int, cells: int, message: str) -> None:
        source = SuperNet(channels, cells, 10, reductions=(1, 2))
        with pytest.raises(ValueError, match=message):
            load_pretrained(self.net(), source.state_dict())
