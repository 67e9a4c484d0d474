"""Weights and margins for long-tailed losses (method: section 8)."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tailnas.imbalance.class_weights import class_balanced_weights
from tailnas.losses.ldam import ldam_margins

counts = st.lists(st.integers(1, 100_000), min_size=1, max_size=40)


@given(counts=counts, beta=st.floats(0, 1, exclude_max=True))
def test_weights_follow_the_formula(counts, beta):
    weights = class_balanced_weights(counts, beta)
    assert weights.shape == (len(counts),) and weights.dtype == torch.get_default_dtype()
    assert float(weights.double().sum()) == pytest.approx(len(counts), rel=1e-5)
    ordered = [weight for _, weight in sorted(zip(counts, weights.tolist(), strict=True))]
    assert all(a >= b * (1 - 1e-5) for a, b in pairwise(ordered)), "rarer weighs no less"


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.9999, 1 - 1e-12])
def test_weights_in_exact_arithmetic(beta):
    from fractions import Fraction

    sizes = [1, 2, 30, 178]
    exact = [(1 - Fraction(beta)) / (1 - Fraction(beta) ** n) for n in sizes]
    expected = [float(value * len(sizes) / sum(exact)) for value in exact]
    assert class_balanced_weights(sizes, beta).tolist() == pytest.approx(expected, rel=1e-6)


def test_beta_zero_weighs_all_alike():
    assert class_balanced_weights([100, 1, 7], 0).tolist() == [1, 1, 1]


def test_beta_towards_one_is_inverse_frequency():
    weights = class_balanced_weights([100, 10], 1 - 1e-15)
    assert float(weights[1] / weights[0]) == pytest.approx(10, rel=1e-3)


def test_the_weights_are_those_of_cross_entropy():
    """A batch of two images: the mean over the batch's sum of weights, not over its images."""
    weights = class_balanced_weights([90, 10], 0.99)
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.25]])
    labels = torch.tensor([0, 1])
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (weights[labels] * each).sum() / weights[labels].sum()
    torch.testing.assert_close(F.cross_entropy(logits, labels, weight=weights), expected)


@given(counts=counts, largest=st.floats(0.01, 10))
def test_margins_follow_the_formula(counts, largest):
    margins = ldam_margins(counts, largest)
    assert float(margins.max()) == pytest.approx(largest, rel=1e-6)
    expected = [largest * (min(counts) / n) ** 0.25 for n in counts]
    assert margins.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sizes", [[], [3, 0], [-1, 2], [[1, 2]], [math.nan, 1.0], [math.inf, 1.0]], ids=str)
@pytest.mark.parametrize("function", [lambda n: class_balanced_weights(n, 0.9), ldam_margins], ids=["weights", "ldam"])
def test_impossible_counts_are_named(function, sizes):
    with pytest.raises(ValueError, match=r"^counts: .*allowed: "):
        function(sizes)


@pytest.mark.parametrize("beta", [-0.1, 1, 1.5, math.nan])
def test_impossible_beta_is_named(beta):
    with pytest.raises(ValueError, match=r"^beta: .*allowed: "):
        class_balanced_weights([1, 2], beta)


@pytest.mark.parametrize("margin", [0, -1, math.inf, math.nan])
def test_impossible_margin_is_named(margin):
    with pytest.raises(ValueError, match=r"^max_margin: .*allowed: "):
        ldam_margins([1, 2], margin)
