"""Equiangular tight frames and the classifiers that are fixed to them."""

import pytest
import torch
import torch.nn.functional as F

from tailnas.space.equiangular import EquiangularClassifier, equiangular_frame, fix_classifier
from tailnas.space.supernet import SuperNet
from tailnas.space.two_branch import TwoBranchSuperNet


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("classes", "features"), [(2, 1), (2, 9), (10, 9), (10, 64), (100, 256)])
def test_all_angles_are_equal_and_as_wide_as_can_be(classes, features):
    frame = equiangular_frame(classes, features, generator())
    expected = torch.full((classes, classes), -1 / (classes - 1), dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(frame @ frame.T, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(frame.sum(0), torch.zeros(features, dtype=torch.float64), rtol=0, atol=1e-13)
    tight = frame.T @ frame  # K / (K - 1) times a projection: a tight frame of the space that it spans
    torch.testing.assert_close(tight @ tight, classes / (classes - 1) * tight, rtol=0, atol=1e-13)
    assert torch.linalg.matrix_rank(frame) == classes - 1


def test_frame_is_drawn_from_the_seed():
    one, again, other = (equiangular_frame(5, 8, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.allclose(one, other)


@pytest.mark.parametrize(("classes", "features"), [(1, 4), (10, 8)])
def test_frame_that_has_no_room(classes, features):
    with pytest.raises(
        ValueError, match=rf"^{features} features for {classes} equi.*; allowed: at least {classes - 1}$"
    ):
        equiangular_frame(classes, features, generator())


def test_classifier_scores_cosines_and_learns_nothing():
    frame = equiangular_frame(4, 6, generator())
    classifier = EquiangularClassifier(frame, 16.0)
    features = torch.randn(5, 6, generator=generator(1), dtype=torch.float64, requires_grad=True)
    expected = 16 * F.cosine_similarity(features[:, None], frame[None], dim=2)
    torch.testing.assert_close(classifier(features), expected)
    F.cross_entropy(classifier(features), torch.tensor([0, 1, 2, 3, 0])).backward()
    assert classifier.weight.grad is None and bool(features.grad.any())
    assert [weight for weight in classifier.parameters() if weight.requires_grad] == []


@pytest.mark.parametrize("kind", [SuperNet, TwoBranchSuperNet])
def test_fixed_classifiers_of_a_super_network(kind):
    network = kind(2, 3, 5, in_channels=1)
    fix_classifier(network, 10.0, generator())
    names = [name for name in network.state_dict() if "classifier" in name]
    own = {name: weight.requires_grad for name, weight in network.named_parameters() if name in (*names, "bias")}
    frames = [network.state_dict()[name] for name in names]
    assert not any(own.values()) and len(names) == (1 if kind is SuperNet else 2)
    assert all(torch.equal(frame, equiangular_frame(5, frame.shape[1], generator()).float()) for frame in frames)
    images = torch.randn(3, 1, 16, 16, generator=generator(2))
    if kind is SuperNet:
        outputs = network(images)
        torch.testing.assert_close(outputs, 10 * F.normalize(network.features(images), dim=1) @ frames[0].T)
    else:
        outputs = network(images, images, None, 0.5)
    torch.testing.assert_close(outputs.sum(1), torch.zeros(3), rtol=0, atol=1e-4)
