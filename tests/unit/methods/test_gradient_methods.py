"""The searches by gradient: what each changes about the bilevel search."""

from dataclasses import replace

import pytest
import torch

from tailnas.batches.device_images import DeviceImages
from tailnas.foundation.errors import UserError
from tailnas.imbalance.class_weights import class_balanced_weights
from tailnas.search.objective import SingleBranch, TwoBranch
from tailnas.search.run import bilevel_search
from tests.unit.small_search import same, search, settings_of

HEADS = ("backbone", "instance_head", "class_head")


def one_branch(task, class_weights=None, *, own_head=False):
    return SingleBranch(task.single_branch(own_head=own_head), class_weights=class_weights)


def test_darts_is_the_plain_search(make_task):
    task = make_task(epochs=1)
    assert same(search("darts", make_task(epochs=1)), bilevel_search(task, one_branch(task), ["instance"]))


def test_resampling_balances_the_batches_of_both_halves(make_task):
    task = make_task(epochs=1)
    assert same(
        search("darts_resample", make_task(epochs=1)), bilevel_search(task, one_branch(task), ["class_balanced"])
    )


def test_reweighting_goes_by_the_classes_of_each_half(make_task):
    """Here the halves are not alike: 12, 6 and 2 images in the weight half, 12, 6 and 3 in the other one."""

    def task():
        made = make_task(epochs=1)
        half = made.weight_half
        return replace(made, weight_half=DeviceImages(half.images[:20], half.labels[:20]))

    own = {"weight": class_balanced_weights([12, 6, 2], 0.9), "architecture": class_balanced_weights([12, 6, 3], 0.9)}
    swapped = dict(zip(own, reversed(own.values()), strict=True))
    found = search("darts_reweight", task(), beta=0.9)
    assert same(found, bilevel_search(task(), one_branch(task(), own), ["instance"]))
    assert not same(found, bilevel_search(task(), one_branch(task(), swapped), ["instance"]))


@pytest.mark.parametrize(("method", "sampler"), [("darts", "instance"), ("darts_resample", "class_balanced")])
def test_a_head_of_its_own(make_task, method, sampler):
    task = make_task(epochs=1)
    found = search(method, make_task(epochs=1), head="own")
    assert same(found, bilevel_search(task, one_branch(task, own_head=True), [sampler]))
    assert "instance_head" in found.alphas


def test_a_reweighted_search_with_a_head_of_its_own(make_task):
    own = search("darts_reweight", make_task(epochs=1), beta=0.0, head="own")
    assert same(own, search("darts", make_task(epochs=1), head="own"))


def test_without_beta_it_is_the_plain_search(make_task):
    plain = search("darts", make_task(epochs=1))
    assert same(search("darts_reweight", make_task(epochs=1), beta=0.0), plain)


@pytest.mark.parametrize("mix", ["logits", "probabilities"])
def test_bbn_draws_an_instance_and_a_reversed_batch_and_keeps_all_rates(make_task, mix):
    mixing = {"schedule": "constant", "time": "start", "ratio": 0.25}
    found = search("bbn", make_task(epochs=1, architecture_learning_rate=0.2), mix=mix, mixing=mixing)
    assert {found.history[0][f"lr_{name}"] for name in HEADS} == {0.2}
    assert found.history[0]["mixing_ratio"] == 0.25
    task = make_task(epochs=1, architecture_learning_rate=0.2)
    objective = TwoBranch(task.two_branch(), mix)
    ratio = settings_of("bbn", mixing=mixing).mixing
    assert same(found, bilevel_search(task, objective, ["instance", "reversed"], ratio))


def test_hls_slows_the_heads_as_the_mixing_ratio_says(make_task):
    result = search("bbn_hls", make_task(architecture_learning_rate=0.2))
    for row, mu in zip(result.history, (0.75, 0.25), strict=True):
        assert row["mixing_ratio"] == pytest.approx(mu)
        assert row["lr_backbone"] == row["lr_instance_head"] == pytest.approx(0.2 * mu)
        assert row["lr_class_head"] == pytest.approx(0.2 * (1 - mu))


def test_the_backbone_of_hls_has_a_schedule_of_its_own(make_task):
    """(1 - t)^2 at the midpoints 1/4 and 3/4, whatever the mixing ratio is."""
    mixing = {"schedule": "constant", "time": "midpoint", "ratio": 0.9}
    backbone = {"schedule": "polynomial", "power": 2.0}
    task = make_task(architecture_learning_rate=0.16)
    rows = search("bbn_hls", task, mixing=mixing, heads="constant", backbone=backbone).history
    assert [row["lr_backbone"] for row in rows] == pytest.approx([0.09, 0.01])
    assert all(row["lr_instance_head"] == row["lr_class_head"] == 0.16 for row in rows)


def test_hls_with_constant_rates_is_bbn(make_task):
    rates = {"heads": "constant", "backbone": {"schedule": "constant"}}
    bbn = search("bbn", make_task(epochs=1))
    assert same(search("bbn_hls", make_task(epochs=1), **rates), bbn)
    assert not torch.equal(search("bbn_hls", make_task(epochs=1)).alphas["normal"], bbn.alphas["normal"])


@pytest.mark.parametrize("mixing", [None, {"schedule": "linear", "time": "midpoint"}])
def test_lt_darts_searches_with_a_classifier_that_stays(make_task, mixing):
    result = search("lt_darts", make_task(epochs=1), mixing=mixing)
    plain = search("darts" if mixing is None else "bbn", make_task(epochs=1))
    assert result.alphas.keys() == plain.alphas.keys() and len(result.history) == 1
    assert not torch.equal(result.alphas["normal"][-1], plain.alphas["normal"][-1])
    assert torch.equal(result.alphas["normal"][0], plain.alphas["normal"][0]), "the alphas are drawn alike"
    for name, weight in result.network.state_dict().items():
        if "classifier" in name:
            cosines = torch.nn.functional.normalize(weight, dim=1) @ weight.T
            torch.testing.assert_close(cosines, 1.5 * torch.eye(3) - 0.5, rtol=0, atol=1e-6)
    fixed = sum(w.numel() for n, w in result.network.named_parameters() if "classifier" in n or n == "bias")
    total = sum(weight.numel() for weight in result.network.parameters())
    assert result.cost.weights_trained == total - fixed


def test_lt_darts_needs_a_feature_for_each_class_but_one(make_task):
    task = replace(make_task(), num_classes=34)
    with pytest.raises(UserError, match=r"^space\.channels: 2, which gives 32 features for 34 .*: at least 33 with"):
        search("lt_darts", task)
