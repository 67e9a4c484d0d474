import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tailnas.imbalance.samplers import (
    SAMPLERS,
    class_probabilities,
    frequencies,
    make_sampler,
    reversed_class_probabilities,
)

COUNTS = [60, 30, 12, 5, 3]
LABELS = torch.from_numpy(np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS)))


def sampler(name: str, seed: int = 0, labels: torch.Tensor = LABELS):
    return make_sampler(name, labels, 5, torch.Generator().manual_seed(seed))


def test_reversed_probabilities_follow_the_formula() -> None:
    expected = np.array([60 / n for n in COUNTS])
    expected /= expected.sum()
    found = reversed_class_probabilities(COUNTS)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-15)
    np.testing.assert_allclose(reversed_class_probabilities(torch.tensor(COUNTS)).numpy(), expected, rtol=1e-15)
    assert reversed_class_probabilities([100, 1]).tolist() == pytest.approx([1 / 101, 100 / 101], rel=1e-15)


@pytest.mark.parametrize("counts", [[], [3, 0], [3, -1], [[1, 2]], [float("nan"), 1]])
def test_counts_without_probabilities(counts) -> None:
    with pytest.raises(ValueError, match=r"^counts: .* allowed: "):
        reversed_class_probabilities(counts)


FORMULAS = {
    "instance": lambda n: n,
    "class_balanced": lambda n: np.ones_like(n),
    "square_root": np.sqrt,
    "reversed": lambda n: n.max() / n,
    0.8: lambda n: n**0.8,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_draws_follow_the_formula(name) -> None:
    weights = FORMULAS[name](np.array(COUNTS, float))
    expected = weights / weights.sum()
    np.testing.assert_allclose(class_probabilities(name, COUNTS).numpy(), expected, rtol=1e-15)
    rows = sampler(name).epoch(2000, 10)
    assert rows.shape == (2000, 10)
    assert rows.dtype == torch.int64
    drawn = torch.bincount(LABELS[rows.flatten()], minlength=5).numpy()
    if name == "instance":  # a permutation is more even than independent draws
        np.testing.assert_allclose(drawn / drawn.sum(), expected, atol=0.002)
    else:
        assert chisquare(drawn, expected * drawn.sum()).pvalue > 0.001


@pytest.mark.parametrize("name", ["class_balanced", "square_root", "reversed"])
def test_draws_inside_a_class_are_uniform(name) -> None:
    rows = sampler(name).epoch(3000, 10).flatten()
    for c, count in enumerate(COUNTS):
        members = LABELS.eq(c)
        drawn = torch.bincount(rows[members[rows]], minlength=len(LABELS))[members].numpy()
        assert drawn.shape == (count,)
        assert chisquare(drawn).pvalue > 0.001


def test_progressive_balance_goes_from_instances_to_classes() -> None:
    progressive = sampler("progressively_balanced")
    for epoch, expected in [
        (0, class_probabilities("instance", COUNTS)),
        (5, (class_probabilities("instance", COUNTS) + 0.2) / 2),
        (10, class_probabilities("class_balanced", COUNTS)),
    ]:
        progressive.set_epoch(epoch, 10)
        drawn = torch.bincount(LABELS[progressive.epoch(2000, 10).flatten()], minlength=5)
        assert chisquare(drawn.numpy(), expected.numpy() * 20_000).pvalue > 0.001
    with pytest.raises(ValueError, match="epoch: 11 of 10"):
        progressive.set_epoch(11, 10)


def test_a_pass_of_instances_is_a_permutation() -> None:
    instance = sampler("instance")
    one, two = instance.epoch(10, 11), instance.epoch(10, 11)
    for epoch in (one, two):
        assert sorted(epoch.flatten().tolist()) == list(range(110))
    assert one.tolist() != two.tolist()


def test_passes_drop_the_partial_batch_and_continue_across_epochs() -> None:
    instance = sampler("instance")
    rows = torch.cat([instance.epoch(2, 40), instance.epoch(3, 40)])  # two batches per pass, 30 images dropped
    for first, second in [(0, 1), (2, 3)]:
        assert len(set(rows[[first, second]].flatten().tolist())) == 80
    assert (rows[:4] == sampler("instance").epoch(4, 40)).all()
    halves = sampler("instance")
    seen = torch.cat([halves.epoch(1, 40), halves.epoch(1, 40)])
    assert len(set(seen.flatten().tolist())) == 80


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_resumed_sampler_draws_the_same(name) -> None:
    ours = sampler(name)
    ours.set_epoch(1, 4)
    ours.epoch(3, 20)
    state = {key: value.clone() for key, value in ours.state_dict().items()}
    expected = [ours.epoch(4, 20), ours.epoch(2, 20)]
    resumed = sampler(name, seed=99)
    resumed.load_state_dict(state)
    for rows in expected:
        assert (resumed.epoch(len(rows), 20) == rows).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds_decide(name) -> None:
    assert (sampler(name).epoch(2, 50) == sampler(name).epoch(2, 50)).all()
    assert (sampler(name).epoch(2, 50) != sampler(name, seed=1).epoch(2, 50)).any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_global_generator_is_left_alone(name) -> None:
    before = torch.get_rng_state()
    sampler(name).epoch(3, 7)
    assert (torch.get_rng_state() == before).all()


def test_labels_may_be_arrays_or_lists() -> None:
    for labels in (LABELS.numpy(), LABELS.tolist(), LABELS.int()):
        assert (sampler("reversed", labels=labels).epoch(2, 9) == sampler("reversed").epoch(2, 9)).all()


def test_bad_requests() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="batch_size: 111; allowed: 1 to 110"):
        sampler("instance").epoch(1, 111)
    with pytest.raises(ValueError, match="steps, batch_size: 1, 0"):
        sampler("reversed").epoch(1, 0)
    with pytest.raises(ValueError, match="steps, batch_size: 0, 5"):
        sampler("reversed").epoch(0, 5)
    with pytest.raises(ValueError, match="sampler: 'oracle'; allowed: instance"):
        make_sampler("oracle", LABELS, 5, generator)
    with pytest.raises(ValueError, match="labels: 0 to 4; allowed: 0 to 3"):
        make_sampler("instance", LABELS, 4, generator)
    with pytest.raises(ValueError, match="at least one image in each class"):
        make_sampler("reversed", LABELS, 6, generator)
    with pytest.raises(ValueError, match="labels: "):
        make_sampler("reversed", LABELS.float(), 5, generator)


def test_class_aware_draws_go_through_the_classes_and_through_the_images_of_each() -> None:
    """Every five groups hold every class; an image of a class comes again once all others of it have come."""
    drawing = sampler("class_aware")
    assert drawing.images_per_epoch == 5 * 60
    rows = torch.cat([drawing.epoch(5, 60).flatten() for _ in range(4)])
    groups = LABELS[rows].view(-1, 4)
    assert bool((groups == groups[:, :1]).all())
    assert bool((groups[:, 0].view(-1, 5).sort(dim=1).values == torch.arange(5)).all())
    assert len(set(map(tuple, groups[:, 0].view(-1, 5).tolist()))) > 10
    for c, count in enumerate(COUNTS):
        members = torch.nonzero(LABELS.eq(c)).flatten()
        passes = rows[LABELS[rows] == c]
        whole = passes[: len(passes) // count * count].view(-1, count)
        assert bool((whole.sort(dim=1).values == members).all())
        assert count == 1 or len(set(map(tuple, whole.tolist()))) > 1


def test_numbers_of_any_scale_as_frequencies() -> None:
    assert frequencies(torch.tensor([2.0, 6.0])) == (0.25, 0.75)
    least, most = frequencies(torch.tensor([0.0, 5.0]))
    assert least == pytest.approx(1e-9, rel=1e-6) and most == pytest.approx(1 - 1e-9, abs=1e-12)


def test_a_pass_that_batches_divide_is_used_up() -> None:
    sampler = make_sampler("instance", [0] * 6, 1, torch.Generator().manual_seed(0))
    for batch_size in (6, 3, 1):
        for _ in range(3):
            drawn = torch.cat([sampler.epoch(1, batch_size) for _ in range(6 // batch_size)])
            assert sorted(drawn.flatten().tolist()) == list(range(6))


@pytest.mark.parametrize("labels", [[-1, 0, 1], [0, 1, 3]])
def test_labels_outside_of_the_classes_are_refused(labels) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 2"):
        make_sampler("instance", labels, 3, torch.Generator())


def test_progressive_balance_begins_with_instances_and_knows_its_epochs() -> None:
    sampler = make_sampler("progressively_balanced", [0, 0, 0, 1], 2, torch.Generator())
    assert sampler.probabilities.tolist() == [0.75, 0.25]
    for epoch, epochs in ((-1, 4), (5, 4), (0, 0)):
        with pytest.raises(ValueError, match="epoch: "):
            sampler.set_epoch(epoch, epochs)


def test_class_aware_draws_shuffle_no_more_than_they_use() -> None:
    """Two groups of four: each class once, so four of its images; one class in the middle of its cycle waits."""
    labels = [0] * 8 + [1] * 4
    sampler = make_sampler("class_aware", labels, 2, torch.Generator().manual_seed(0))
    sampler.epoch(1, 8)
    state = sampler.state_dict()
    assert [len(state[f"pending.{cycle}"]) for cycle in range(3)] == [0, 4, 0]
