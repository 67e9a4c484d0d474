import numpy as np
import pytest
from PIL import ImageFont

from tailnas.fetch.glyph_drawing import face_path
from tailnas.foundation.errors import UserError
from tailnas.sources import glyphs
from tailnas.sources.glyphs import ALPHABETS, TEST_FACES, TRAIN_FACES


def settings(**changes) -> glyphs.Settings:
    few = {"name": "glyphs", "alphabet": "digits", "train_per_class": 6, "test_per_class": 3, "seed": 0}
    return glyphs.Settings(**{**few, **changes})


@pytest.mark.parametrize(("alphabet", "classes"), [("letters", 26), ("digits", 10), ("all", 36)])
@pytest.mark.parametrize(("size", "channels"), [(16, 1), (20, 3), (100, 1), (112, 3)])
def test_any_alphabet_size_and_channels(alphabet, classes, size, channels) -> None:
    ask = settings(alphabet=alphabet, train_per_class=4, test_per_class=1)
    data = glyphs.load(ask, size, channels)
    assert data.train_images.shape == (4 * classes, channels, size, size)
    assert data.test_images.shape == (classes, channels, size, size)
    assert data.train_images.dtype == np.uint8
    assert np.bincount(data.train_labels).tolist() == [4] * classes == glyphs.train_counts(ask)
    assert np.bincount(data.test_labels).tolist() == [1] * classes
    assert len(data.classes) == len(set(data.classes)) == classes
    assert data.classes == glyphs.class_names(ask)


def test_the_seed_decides() -> None:
    first, again, other = (glyphs.load(settings(seed=seed), 16, 1) for seed in (3, 3, 4))
    assert (first.train_images == again.train_images).all()
    assert (first.test_images == again.test_images).all()
    assert (first.train_images != other.train_images).any((1, 2, 3)).all()


def test_images_are_all_different_and_none_is_empty() -> None:
    data = glyphs.load(settings(train_per_class=40, test_per_class=20), 16, 3)
    other = glyphs.load(settings(train_per_class=40, test_per_class=20, name="more"), 16, 3)
    images = np.concatenate([data.train_images, data.test_images, other.train_images, other.test_images])
    assert len({image.tobytes() for image in images}) == len(images) == 1200
    assert images.reshape(len(images), -1).std(1).min() > 5


def test_more_images_begin_with_the_same_ones() -> None:
    few, many = glyphs.load(settings(), 16, 3), glyphs.load(settings(train_per_class=9, test_per_class=5), 16, 3)
    for c in range(10):
        assert (few.train_images[few.train_labels == c] == many.train_images[many.train_labels == c][:6]).all()
        assert (few.test_images[few.test_labels == c] == many.test_images[many.test_labels == c][:3]).all()


def test_train_and_test_share_no_face_nor_outline() -> None:
    assert not set(TRAIN_FACES) & set(TEST_FACES)
    outlines = {}
    for face in TRAIN_FACES + TEST_FACES:
        font = ImageFont.truetype(str(face_path(face)), 60)
        drawn = [bytes(font.getmask(character)) for character in ALPHABETS["all"]]
        assert len(set(drawn)) == len(drawn), f"{face} draws two characters alike"
        outlines[face] = drawn
    for c in range(len(ALPHABETS["all"])):
        assert not {outlines[face][c] for face in TRAIN_FACES} & {outlines[face][c] for face in TEST_FACES}


def test_grey_images_look_like_the_coloured_ones() -> None:
    grey, colour = (glyphs.load(settings(train_per_class=30), 16, channels).train_images for channels in (1, 3))
    luminance = (colour * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    assert np.corrcoef(grey[:, 0].ravel(), luminance.ravel())[0, 1] > 0.97
    spread = colour.astype(int).max(1) - colour.astype(int).min(1)
    assert spread.mean() > 30


def test_neither_trivial_nor_hopeless() -> None:
    data = glyphs.load(settings(alphabet="letters", train_per_class=60, test_per_class=10), 16, 1)

    def standardised(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1).astype(float)
        flat -= flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    # nearest neighbour, blind to polarity: far above chance (1 / 26), far from perfect
    likeness = np.abs(standardised(data.test_images) @ standardised(data.train_images).T)
    accuracy = (data.train_labels[likeness.argmax(1)] == data.test_labels).mean()
    assert 0.2 < accuracy < 0.8


def test_a_missing_font_is_named() -> None:
    with pytest.raises(UserError, match=r"Comic\.ttf: no such font"):
        face_path("Comic")
