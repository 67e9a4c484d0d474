"""Label-aware smoothing against the paper's formulas, in float64 (method: section 8)."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from tailnas.imbalance.settings import ClassSmoothing
from tailnas.imbalance.smoothing import SMOOTHING_SHAPES, class_smoothing, smoothed_cross_entropy

COUNTS = [500, 300, 60, 20]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("shape", "formula"),
    [
        ("concave", lambda n: 0.1 + 0.3 * math.sin(math.pi * (n - 20) / (2 * 480))),
        ("linear", lambda n: 0.1 + 0.3 * (n - 20) / 480),
        ("convex", lambda n: 0.4 + 0.3 * math.sin(3 * math.pi / 2 + math.pi * (n - 20) / (2 * 480))),
    ],
)
def test_smoothing_of_a_class_by_the_papers_equation(shape, formula):
    found = class_smoothing(COUNTS, 0.4, 0.1, shape)
    assert found.tolist() == pytest.approx([formula(n) for n in COUNTS], rel=1e-14)
    assert found[[0, 3]].tolist() == pytest.approx([0.4, 0.1], rel=1e-14)
    assert class_smoothing([7, 7], 0.4, 0.1, shape).tolist() == pytest.approx([0.4, 0.4], rel=1e-14)


def test_concave_smooths_most_and_convex_least():
    concave, linear, convex = (class_smoothing(COUNTS, 0.4, 0.1, shape)[1:3] for shape in SMOOTHING_SHAPES)
    assert bool((concave > linear).all()) and bool((linear > convex).all())
    assert list(SMOOTHING_SHAPES) == ClassSmoothing.model_json_schema()["properties"]["shape"]["enum"]


@pytest.mark.parametrize(("largest", "smallest", "shape"), [(0.1, 0.2, "linear"), (1.0, 0.0, "linear"), (0.2, 0, "x")])
def test_what_is_out_of_range(largest, smallest, shape):
    with pytest.raises(ValueError, match="; allowed: "):
        class_smoothing(COUNTS, largest, smallest, shape)
    with pytest.raises(ValidationError):
        ClassSmoothing(largest=largest, smallest=smallest, shape=shape)


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, 4, generator=generator, requires_grad=True), torch.randint(4, (9,), generator=generator)


def test_loss_and_gradient_are_those_of_soft_labels():
    """q_y = 1 - eps_y, eps_y / (K - 1) elsewhere; the gradient of cross-entropy with labels q is softmax(z) - q."""
    logits, labels = batch()
    eps, weight = class_smoothing(COUNTS, 0.4, 0.1, "concave"), torch.tensor([0.2, 0.5, 1.1, 2.2])
    targets = torch.empty(9, 4)
    for row, label in zip(targets, labels.tolist(), strict=True):
        row[:] = eps[label] / 3
        row[label] = 1 - eps[label]
    singles = -(targets * F.log_softmax(logits, 1)).sum(1)
    torch.testing.assert_close(smoothed_cross_entropy(logits, labels, eps, weight, "none"), weight[labels] * singles)
    value = smoothed_cross_entropy(logits, labels, eps, weight)
    torch.testing.assert_close(value, (weight[labels] * singles).sum() / weight[labels].sum())
    share = (weight[labels] / weight[labels].sum())[:, None]
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], share * (logits.softmax(1) - targets))


def test_public_code_smooths_over_all_classes():
    """There eps is spread over K classes, the label's own among them: torch's smoothing, at eps K / (K - 1)."""
    logits, labels = batch()
    torch.testing.assert_close(
        smoothed_cross_entropy(logits, labels, torch.full((4,), 0.3)),
        F.cross_entropy(logits, labels, label_smoothing=0.3 * 4 / 3),
    )
    none = smoothed_cross_entropy(logits, labels, torch.zeros(4))
    torch.testing.assert_close(none, F.cross_entropy(logits, labels))


def test_classes_that_differ_by_one_image_and_a_smoothing_below_zero():
    assert class_smoothing([2, 1], 0.4, 0.1, "linear").tolist() == pytest.approx([0.4, 0.1])
    with pytest.raises(ValueError, match="allowed: 0 <= smallest"):
        class_smoothing([2, 1], 0.4, -0.1, "linear")
