import io
import json

import numpy as np
import pytest

from tailnas.data.dataset import FILES, Dataset, load_test, load_train, save
from tailnas.foundation.errors import UserError


def example(channels: int = 3) -> Dataset:
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (2, 12, channels, 16, 16), dtype=np.uint8)
    labels = np.arange(12) % 3
    return Dataset(train, labels, test[:6], labels[:6], ("a b", "ü", "z,"), "toy", "folder")


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_and_loaded(tmp_path, channels) -> None:
    data = example(channels)
    save(data, tmp_path / "toy")
    train, test = load_train(tmp_path / "toy"), load_test(tmp_path / "toy")
    assert (train.images == data.train_images).all()
    assert (train.labels == data.train_labels).all()
    assert (test.images == data.test_images).all()
    assert (test.labels == data.test_labels).all()
    assert train.classes == test.classes == data.classes
    assert train.images.dtype == np.uint8
    assert train.labels.dtype == np.int64
    assert train.counts.tolist() == [4, 4, 4]
    assert json.loads((tmp_path / "toy/meta.json").read_text()) == {
        "name": "toy",
        "kind": "folder",
        "classes": ["a b", "ü", "z,"],
        "image_size": 16,
        "channels": channels,
        "train_counts": [4, 4, 4],
        "test_counts": [2, 2, 2],
        "repeated": {"images": 0, "across_parts": 0, "across_classes": 0},
    }


def test_bytes_depend_on_the_content_alone(tmp_path) -> None:
    data = example()
    save(data, tmp_path / "one")
    strided = Dataset(
        np.asfortranarray(data.train_images), data.train_labels, data.test_images, data.test_labels,
        data.classes, data.name, data.kind,
    )  # fmt: skip
    save(strided, tmp_path / "two")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(set(FILES) - {"files.csv"})
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_training_never_opens_the_test_part(tmp_path) -> None:
    save(example(), tmp_path)
    for path in tmp_path.glob("test_*"):
        path.unlink()
    assert len(load_train(tmp_path).labels) == 12


def array_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def huge_header() -> bytes:
    whole = array_bytes(np.zeros((12, 3, 16, 16), np.uint8))
    return whole.replace(b"(12, 3, 16, 16), }       ", b"(99999999999, 3, 16, 16)}", 1)


IMAGE_DAMAGE = {
    "zero bytes": lambda raw: b"",
    "magic alone": lambda raw: raw[:6],
    "truncated header": lambda raw: raw[:40],
    "truncated data": lambda raw: raw[:-100],
    "garbled header": lambda raw: raw[:12] + b"\xff" * 60 + raw[72:],
    "unknown version": lambda raw: raw[:6] + b"\x09\x00" + raw[8:],
    "text": lambda raw: b"these are no numbers\n" * 100,
    "pickled objects": lambda raw: array_bytes(np.array([{"a": 1}] * 12, dtype=object)),
    "archive": lambda raw: b"PK\x03\x04" + raw,
    "floats": lambda raw: array_bytes(np.zeros((12, 3, 16, 16), np.float32)),
    "three axes": lambda raw: array_bytes(np.zeros((12, 16, 16), np.uint8)),
    "other size": lambda raw: array_bytes(np.zeros((12, 3, 8, 16), np.uint8)),
    "other channels": lambda raw: array_bytes(np.zeros((12, 1, 16, 16), np.uint8)),
    "no images": lambda raw: array_bytes(np.zeros((0, 3, 16, 16), np.uint8)),
    "a scalar": lambda raw: array_bytes(np.uint8(3)),
    "a lying header": lambda raw: huge_header(),
}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("damage", IMAGE_DAMAGE)
def test_damaged_images_are_named(tmp_path, part, damage) -> None:
    save(example(), tmp_path)
    path = tmp_path / f"{part}_images.npy"
    path.write_bytes(IMAGE_DAMAGE[damage](path.read_bytes()))
    with pytest.raises(UserError) as caught:
        (load_train if part == "train" else load_test)(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_lying_header_lies() -> None:
    assert b"99999999999" in huge_header()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.arange(11) % 3, r"int64 \(11,\); allowed: int64 \(12,\)"),
        ((np.arange(12) % 3).astype(np.int32), "int32"),
        ((np.arange(12) % 3).astype(">i8"), ">i8|int64"),
        ((np.arange(12) % 3).reshape(3, 4), r"\(3, 4\)"),
        (np.arange(12) % 4, "labels from 0 to 3; allowed: 0 to 2"),
        (np.arange(12) % 3 - 1, "labels from -1 to 1"),
        (np.arange(12) % 2, r"as in meta\.json"),
    ],
)
def test_wrong_labels_are_named(tmp_path, labels, told) -> None:
    save(example(), tmp_path)
    np.save(tmp_path / "train_labels.npy", labels)
    with pytest.raises(UserError, match=told) as caught:
        load_train(tmp_path)
    assert "train_labels.npy" in str(caught.value)


def test_missing_files(tmp_path) -> None:
    with pytest.raises(UserError, match=r"meta\.json: no such file"):
        load_train(tmp_path)
    save(example(), tmp_path)
    (tmp_path / "train_images.npy").unlink()
    with pytest.raises(UserError, match=r"train_images\.npy: no such file"):
        load_train(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", '""'),
        (b'{"name": "toy",', '"{'),
        (b"[" * 100_000, '"[[['),
        (b"\xff\xfe{}", ""),
        (b"[1]", "[1]"),
        (b"null", "null"),
        (b"{}", "name: missing"),
    ],
)
def test_broken_meta(tmp_path, text, told) -> None:
    save(example(), tmp_path)
    (tmp_path / "meta.json").write_bytes(text)
    with pytest.raises(UserError) as caught:
        load_train(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'meta.json'}: {told}") and "; allowed: " in line
    assert "\n" not in line and len(line) < 300


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("name", 3, "name: 3"),
        ("kind", None, "kind: null"),
        ("classes", "abc", 'classes: "abc"'),
        ("classes", ["a", 2, "c"], "classes.1: 2"),
        ("image_size", "16", 'image_size: "16"'),
        ("image_size", 16.5, "image_size: 16.5"),
        ("image_size", -4, "image_size: -4"),
        ("channels", True, "channels: true"),
        ("train_counts", None, "train_counts: null"),
        ("sizes", [], "sizes: []"),
    ],
)
def test_wrong_meta_values(tmp_path, key, value, told) -> None:
    save(example(), tmp_path)
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError) as caught:
        load_train(tmp_path)
    assert str(caught.value) == f"{path}: {told}; allowed: the object that the fetch stage writes"
