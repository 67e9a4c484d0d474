"""The search without labels: its loss, its two views, and that no label reaches weights or alphas."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tailnas.batches.device_images import DeviceImages
from tailnas.foundation.seeding import torch_generator
from tailnas.methods import ssnas
from tailnas.search.barlow_twins import SAMPLERS, TwoViews, barlow_twins_loss, probe_step, projector, two_views
from tailnas.search.cost import mixture_multiply_adds
from tests.unit.small_search import Killed, same, search, settings_of


def test_loss_by_hand():
    """Columns (1, -1, 0), (1, 1, -2) against (1, -1, 0), (0, 0, 1): C = ((1, 0), (0, -1)) but for scale and means."""
    first = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -2.0]], dtype=torch.float64)
    assert float(barlow_twins_loss(first, first, 0.5)) == pytest.approx(0)
    second = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert float(barlow_twins_loss(first, second, 0.5)) == pytest.approx(4)
    swapped = first.flip(1)
    assert float(barlow_twins_loss(first, swapped, 0.5)) == pytest.approx(1 + 1 + 0.5 * (1 + 1))


def test_loss_is_that_of_numpys_correlations():
    generator = torch_generator(0, "test")
    first, second = (torch.randn(12, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    second += first
    correlation = np.corrcoef(first.T.numpy(), second.T.numpy())[:5, 5:]
    off = correlation - np.diag(np.diag(correlation))
    expected = ((1 - np.diag(correlation)) ** 2).sum() + 0.01 * (off**2).sum()
    assert float(barlow_twins_loss(first, second, 0.01)) == pytest.approx(expected, rel=1e-12)
    scaled = barlow_twins_loss(3 * first + 1, 0.1 * second - 2, 0.01)
    assert float(scaled) == pytest.approx(expected, rel=1e-12), "scale and mean of a dimension are of no effect"
    inputs = first.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda view: barlow_twins_loss(view, second, 0.01), (inputs,))


def test_a_dimension_that_does_not_vary_leaves_the_loss_finite():
    constant = torch.ones(4, 2)
    assert float(barlow_twins_loss(constant, constant, 0.1)) == 2


def test_the_probe_is_gradient_descent_on_softmax_regression():
    generator = torch_generator(0, "test")
    features, labels = torch.randn(30, 4, generator=generator), torch.arange(30) % 3
    features[:, 0] += labels
    probe = torch.nn.Linear(4, 3)
    expected, losses = torch.nn.Linear(4, 3), []
    expected.load_state_dict(probe.state_dict())
    rate = 2 / float((features**2).sum(1).mean() + 1)
    F.cross_entropy(expected(features), labels).backward()
    for _ in range(50):
        losses.append(F.cross_entropy(probe(features), labels).item())
        probe_step(probe, features, labels)
        if len(losses) == 1:
            for weight, own in zip(expected.parameters(), probe.parameters(), strict=True):
                torch.testing.assert_close(own, weight - rate * weight.grad)
    assert all(after < before for before, after in pairwise(losses))


@pytest.mark.parametrize("half", ["weight", "architecture"])
def test_views_are_the_same_images_cropped_differently(make_task, half):
    task = make_task(batch_size=8)
    views = two_views(task, crop_padding=3)
    assert isinstance(views, TwoViews)
    first, second = views.batches(half, SAMPLERS)
    for (images, labels), (others, same_labels) in zip(first.epoch(4), second.epoch(4), strict=True):
        assert torch.equal(labels, same_labels) and not torch.equal(images, others)
    unchanged = two_views(task, crop_padding=0).batches(half, SAMPLERS)
    for (images, _), (others, _) in zip(*(source.epoch(2) for source in unchanged), strict=True):
        assert torch.equal(images, others)


def test_no_label_reaches_the_search(make_task):
    """With other labels the search finds the same alphas and the same weights, but for the probe."""
    task, settings = make_task(epochs=1), settings_of("ssnas", projector=8)
    halves = {half: DeviceImages(data.images, (data.labels + 1) % 3) for half, data in task.halves.items()}
    other = replace(make_task(epochs=1), weight_half=halves["weight"], architecture_half=halves["architecture"])
    found, relabelled = (ssnas.search(one, settings) for one in (task, other))
    assert all(found.alphas[name].equal(relabelled.alphas[name]) for name in found.alphas)
    weights, others = found.network.state_dict(), relabelled.network.state_dict()
    moved = {name for name, values in weights.items() if not torch.equal(values, others[name])}
    assert moved == {"classifier.weight", "classifier.bias"}
    start = task.single_branch().state_dict()
    assert weights.keys() == start.keys() and not weights["stem.0.weight"].equal(start["stem.0.weight"])
    assert not found.alphas["normal"][0].equal(found.alphas["normal"][-1])


def test_it_costs_two_passes_per_image(make_task):
    """2 epochs of one step of 21 images of each half, in two views."""
    task = make_task()
    cost = search("ssnas", task, projector=8).cost
    assert cost.trained_images == 2 * 2 * (21 + 21)
    assert cost.total_multiply_adds == cost.trained_images * mixture_multiply_adds(task.space, 3, 1, 16)
    network = task.single_branch()
    own = sum(weight.numel() for name, weight in network.named_parameters() if "classifier" not in name)
    assert cost.weights_trained == own + sum(weight.numel() for weight in projector(32, 8).parameters())


def test_the_loss_falls_and_an_interruption_leaves_no_trace(make_task, tmp_path):
    def run(**changes):
        return search("ssnas", make_task(epochs=3, batch_size=12, **changes), projector=8)

    whole = run()
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    with pytest.raises(Killed):
        run(folder=tmp_path, epochs_to_live=1)
    assert same(run(folder=tmp_path), whole)


def test_under_the_weights_of_fair_darts(make_task):
    """Sigmoids from which the genotype is derived, another search than that of SSNAS, at the same cost."""
    found = search("ssf_nas", make_task(epochs=1, architecture_learning_rate=0.1), projector=8)
    plain = search("ssnas", make_task(epochs=1, architecture_learning_rate=0.1), projector=8)
    assert not torch.equal(found.alphas["normal"][-1], plain.alphas["normal"][-1])
    start, moved = (row.softmax(-1)[:, 1:] for row in found.alphas["normal"])
    assert float((start - 1 / 16).abs().max()) < 1e-3, "sigmoids of alphas near 0, over 8"
    assert found.cost == plain.cost and float((moved - start).abs().max()) > 1e-3


@pytest.mark.slow
def test_second_order_and_hessian(make_task):
    row = search("ssnas", make_task(order="second", hessian=True, epochs=1), projector=8).history[-1]
    assert np.isfinite([row["architecture_loss"], row["hessian_eigenvalue"]]).all()


@pytest.mark.parametrize("order", ["first", "second"])
def test_the_probe_steps_with_the_weights_and_never_in_the_look_ahead(make_task, monkeypatch, order):
    steps = []
    monkeypatch.setattr("tailnas.search.barlow_twins.probe_step", lambda *of: steps.append(of))
    result = search("ssnas", make_task(epochs=1, order=order, flip=True))
    assert len(steps) == result.cost.optimiser_steps // 2 > 0
