import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from tailnas.imbalance.accuracy import balanced_accuracy


@pytest.mark.parametrize("num_classes", [2, 5])
def test_it_is_the_mean_recall(num_classes) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    labels, predictions = torch.randint(num_classes, (2, 60), generator=generator)
    expected = balanced_accuracy_score(labels.numpy(), predictions.numpy())
    assert balanced_accuracy(labels, predictions, num_classes) == pytest.approx(expected)
    assert balanced_accuracy(labels, labels, num_classes) == 1


def test_only_classes_with_images_count() -> None:
    assert balanced_accuracy(torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1, 2, 2]), 4) == 0.75


def test_a_class_of_one_image_counts_like_the_others():
    assert balanced_accuracy(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0]), 2) == 0.5
