"""The derived network with BBN's two heads (method: section 4)."""

import pytest
import torch
from torch import nn

from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype
from tailnas.space.network import Network, load_model, save_model

HEADS = Genotype(DARTS_V1.normal, DARTS_V1.reduce, DARTS_V2.normal, DARTS_V2.reduce)


def network(genotype=HEADS, seed=0):
    torch.manual_seed(seed)
    return Network(genotype, 2, 4, 3, in_channels=1, reductions=(1, 2), branches=2)


def batches(size=5):
    return torch.randn(2, size, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("genotype", "expected"), [(HEADS, DARTS_V2.reduce), (DARTS_V1, DARTS_V1.normal)])
def test_class_head_is_the_genotypes_or_a_normal_cell(genotype, expected):
    net = network(genotype)
    assert net.class_head.sources == tuple(source for _, source in expected)
    own = genotype.instance_head or genotype.normal
    assert net.cells[-1].sources == tuple(source for _, source in own)
    single = Network(genotype, 2, 4, 3, in_channels=1, reductions=(1, 2))
    assert net.classifier.in_features == 2 * single.classifier.in_features


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.5, 1.0])
def test_mixed_logits_by_hand(mu):
    net, (images_i, images_c) = network().eval(), batches()
    half = net.classifier.in_features // 2
    with torch.no_grad():
        f_i, f_c = net.features(images_i)[:, :half], net.features(images_c)[:, half:]
        w_i, w_c = net.classifier.weight.split(half, dim=1)
        expected = 2 * (mu * f_i @ w_i.T + (1 - mu) * f_c @ w_c.T) + net.classifier.bias
        torch.testing.assert_close(net.mixed_logits(images_i, images_c, mu), expected)


def test_one_image_at_inference_is_the_equal_mixture():
    net, (images, _) = network().eval(), batches()
    with torch.no_grad():
        torch.testing.assert_close(net(images), net.mixed_logits(images, images, 0.5))


def test_running_statistics_take_the_instance_batch_first():
    net, (images_i, images_c) = network().train(), batches()
    norm = net.stem[1]
    with torch.no_grad():
        means = [net.stem[0](images).mean(dim=(0, 2, 3)) for images in (images_i, images_c)]
        net.mixed_logits(images_i, images_c, 0.7)
    assert int(norm.num_batches_tracked) == 2
    torch.testing.assert_close(norm.running_mean, 0.9 * 0.1 * means[0] + 0.1 * means[1])
    for head in (net.cells[-1], net.class_head):
        counted = [m for m in head.modules() if isinstance(m, nn.BatchNorm2d)]
        assert counted and all(int(m.num_batches_tracked) == 1 for m in counted)


def test_a_branch_that_weighs_nothing_learns_nothing():
    net, (images_i, images_c) = network().train(), batches()
    net.mixed_logits(images_i, images_c, 1.0).square().sum().backward()
    assert all(not bool(w.grad.any()) for w in net.class_head.parameters())
    assert any(bool(w.grad.any()) for w in net.cells[-1].parameters())


def test_drop_path_reaches_both_heads():
    net, (images_i, images_c) = network().train(), batches()
    net.drop_path, net.drop_path_generator = 0.5, torch.Generator().manual_seed(0)
    seen = {}
    for head in (net.cells[-1], net.class_head):
        head.register_forward_pre_hook(lambda cell, inputs: seen.update({cell: torch.stack(inputs[2])}))
    net.mixed_logits(images_i, images_c, 0.5)
    for head in (net.cells[-1], net.class_head):
        assert seen[head].shape == (head.droppable(), 5, 1, 1, 1)
        assert set(seen[head].unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(seen[net.cells[-1]][:5], seen[net.class_head][:5])


def test_file_round_trip(tmp_path):
    net, (images, _) = network().eval(), batches()
    save_model(tmp_path / "model.safetensors", net)
    loaded = load_model(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(loaded(images), net(images))


def test_what_cannot_have_two_branches():
    with pytest.raises(ValueError, match="auxiliary"):
        Network(HEADS, 2, 4, 3, auxiliary=True, branches=2)
    with pytest.raises(ValueError, match=r"^reductions: .* the head cell"):
        Network(DARTS_V1, 2, 4, 3, reductions=(1, 3), branches=2)
    with pytest.raises(ValueError, match="branches"):
        Network(HEADS, 2, 4, 3, branches=3)
