"""Images that stand more than once: within a data set, and in source and target."""

import json

import numpy as np
import pytest

from tailnas.data.dataset import Dataset, save
from tailnas.data.repeated import Repeated, copies, count_repeated, image_digests, read_digests, shared_rows
from tailnas.foundation.errors import UserError
from tailnas.split.apart import require_apart

A, B, C, D = (np.full((3, 16, 16), level, np.uint8) for level in (1, 2, 3, 4))


def data(train, test, name="mine"):
    """Images of class 0 where they come first in a pair, of class 1 else."""
    images, labels = [], []
    for part in (train, test):
        images.append(np.stack([image for image, _ in part]))
        labels.append(np.array([label for _, label in part], np.int64))
    return Dataset(images[0], labels[0], images[1], labels[1], ("a", "b"), name, "folder")


def test_copies_are_found_by_their_pixels():
    almost = A.copy()
    almost[2, 15, 15] += 1
    digests = image_digests(np.stack([A, B, A, C, almost, B, A]))
    assert digests.shape == (7, 16) and digests.dtype == np.uint8
    assert [group.tolist() for group in copies(digests)] == [[0, 2, 6], [1, 5]]
    assert copies(image_digests(np.stack([A, B, almost]))) == []
    assert shared_rows(digests, image_digests(np.stack([D, B]))).tolist() == [1, 5]


@pytest.mark.parametrize(
    ("train", "test", "found"),
    [
        ([(A, 0), (B, 1)], [(C, 0), (D, 1)], (0, 0, 0)),
        ([(A, 0), (A, 0), (A, 0), (B, 1)], [(C, 0), (D, 1)], (1, 0, 0)),
        ([(A, 0), (B, 1)], [(A, 0), (D, 1)], (1, 1, 0)),
        ([(A, 0), (A, 1)], [(C, 0), (D, 1)], (1, 0, 1)),
        ([(A, 0), (B, 1), (C, 0)], [(A, 1), (B, 1), (D, 0), (D, 0)], (3, 2, 1)),
    ],
)
def test_fetch_says_what_stands_more_than_once(tmp_path, train, test, found):
    """Different images, whatever the number of their copies; known by hand."""
    repeated = save(data(train, test), tmp_path)
    assert (repeated.images, repeated.across_parts, repeated.across_classes) == found
    assert Repeated(**json.loads((tmp_path / "meta.json").read_text())["repeated"]) == repeated
    labels = np.array([label for _, label in [*train, *test]])
    _, crossing = count_repeated(read_digests(tmp_path), labels, len(train))
    assert len(crossing) <= found[1] + found[2] and bool(crossing) == (found[1] + found[2] > 0)
    assert (str(repeated) == "no image stands there twice") == (found == (0, 0, 0))


def test_source_and_target_that_share_images_by_their_pixels(tmp_path):
    save(data([(A, 0), (B, 1)], [(C, 0), (D, 1)]), tmp_path / "mine")
    save(data([(D, 0), (A + 9, 1)], [(B, 0), (A + 8, 1)], "other"), tmp_path / "other")
    with pytest.raises(UserError) as caught:
        require_apart(tmp_path / "mine", tmp_path / "other")
    assert str(caught.value) == (
        "data.target: 'mine' shares 2 of its 4 images with data.source 'other', such as its training image 1, "
        "its test image 1 (from 0); allowed: source and target that share no image"
    )
    save(data([(A + 9, 0), (B + 9, 1)], [(C + 9, 0), (D + 9, 1)], "third"), tmp_path / "third")
    require_apart(tmp_path / "mine", tmp_path / "third")


def test_damaged_digests_are_named(tmp_path):
    save(data([(A, 0), (B, 1)], [(C, 0), (D, 1)]), tmp_path)
    np.save(tmp_path / "digests.npy", np.zeros((4, 8), np.uint8))
    with pytest.raises(UserError, match=r"digests\.npy: uint8 \(4, 8\); allowed: uint8 \(N, 16\)"):
        read_digests(tmp_path)
