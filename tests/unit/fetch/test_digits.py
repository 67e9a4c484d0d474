import numpy as np
import pytest

from tailnas.sources import digits


def settings(**changes) -> digits.Settings:
    return digits.Settings(**{"name": "digits", "test_per_class": 50, "seed": 0, **changes})


def test_all_images_are_there_once() -> None:
    data = digits.load(settings(), 16, 1)
    assert data.train_images.shape == (1297, 1, 16, 16)
    assert data.test_images.shape == (500, 1, 16, 16)
    assert data.train_images.dtype == np.uint8
    assert np.bincount(data.test_labels).tolist() == [50] * 10
    assert np.bincount(data.train_labels).tolist() == digits.train_counts(settings())
    assert data.classes == tuple("0123456789")
    assert (data.name, data.kind) == ("digits", "digits")
    pixels = {image.tobytes() for image in np.concatenate([data.train_images, data.test_images])}
    assert len(pixels) == 1797
    assert data.train_images.max() == 255


def test_enlargement_keeps_the_picture() -> None:
    small, large = (digits.load(settings(), size, 1).train_images.astype(float) for size in (8, 32))
    shrunk = large.reshape(-1, 8, 4, 8, 4).mean((2, 4))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.97


def test_colour_repeats_grey() -> None:
    grey, colour = (digits.load(settings(), 16, channels).train_images for channels in (1, 3))
    assert colour.shape == (1297, 3, 16, 16)
    assert (colour == grey).all()


def test_the_test_part_is_the_seeds() -> None:
    first, again, other = (digits.load(settings(seed=seed), 16, 1).test_images for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("count", [1, 173])
def test_as_much_is_taken_for_the_test_part_as_every_digit_has(count) -> None:
    data = digits.load(settings(test_per_class=count), 16, 1)
    assert np.bincount(data.test_labels).tolist() == [count] * 10
    assert np.bincount(data.train_labels).tolist() == digits.train_counts(settings(test_per_class=count))
