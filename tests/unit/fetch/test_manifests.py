"""Images that a CSV file or published list files name."""

import csv

import numpy as np
import pytest
from PIL import Image

from tailnas.foundation.errors import UserError
from tailnas.sources import lists, manifest

OWN = {"test_per_class": None, "group": None, "unreadable": "refuse", "seed": 0}


def images(root, names):
    """Pictures whose grey level is their place in `names`."""
    for level, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 30), level).save(root / name)
    return names


def table(root, rows):
    with (root / "list.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def of_manifest(root, **changes):
    return manifest.Settings(**{"name": "mine", "root": str(root), "file": "list.csv", **OWN, **changes})


def of_lists(root, **changes):
    return lists.Settings(**{"name": "mine", "root": str(root), "train": "train.txt", "test": None, **OWN, **changes})


def levels(images):
    return images[:, 0, 0, 0].tolist()


def rows_of(names, labels, **more):
    return [
        {"path": name, "label": label, **{key: column[i] for key, column in more.items()}}
        for i, (name, label) in enumerate(zip(names, labels, strict=True))
    ]


@pytest.mark.parametrize(
    ("splits", "trained", "tested", "said"),
    [
        (["train", "Train", "test", "training", "train", "testing"], [0, 1, 3, 4], [2, 5], ""),
        (["train", "train", "val", "train", "train", "valid"], [0, 1, 3, 4], [2, 5], "val is the test part"),
        (["train", "val", "test", "train", "validation", "test"], [0, 1, 3, 4], [2, 5], "val joins train"),
    ],
)
def test_a_manifest_with_parts(tmp_path, capsys, splits, trained, tested, said):
    names = images(tmp_path, [f"some place/{i} ü.png" for i in range(6)])
    table(tmp_path, rows_of(names, ["10", "10", "10", "9", "9", "9"], split=splits, note=["x"] * 6))
    data = manifest.load(of_manifest(tmp_path), 16, 1)
    assert data.classes == ("9", "10") == manifest.class_names(of_manifest(tmp_path)), "numbers in their order"
    assert (levels(data.train_images), levels(data.test_images)) == (trained, tested)
    assert data.train_labels.tolist() == [1, 1, 0, 0] and data.test_labels.tolist() == [1, 0]
    assert manifest.train_counts(of_manifest(tmp_path)) == [2, 2]
    assert data.origin.files == [names[row] for row in trained + tested]
    assert said in capsys.readouterr().out
    assert manifest.watched(of_manifest(tmp_path)) == [tmp_path / name for name in names]


def test_a_manifest_without_parts_and_its_groups(tmp_path):
    names = images(tmp_path, [f"{i}.png" for i in range(24)])
    groups = [f"g{i // 3}" for i in range(24)]
    table(tmp_path, rows_of(names, ["a", "b"] * 12, group=groups))
    ask = of_manifest(tmp_path, test_per_class={"fraction": 0.3, "least": 1})
    data = manifest.load(ask, 16, 1)
    training = len(data.train_labels)
    assert set(data.origin.groups) == set(groups)
    assert not set(data.origin.groups[:training]) & set(data.origin.groups[training:])
    assert np.bincount(data.test_labels).tolist() == pytest.approx([4, 4], abs=2)
    with pytest.raises(UserError, match=r"group: \"x\"; allowed: null, since .*list\.csv has that column"):
        manifest.load(of_manifest(tmp_path, group="x"), 16, 1)
    table(tmp_path, rows_of(names, ["a", "b"] * 12, group=groups, split=["train", "test"] * 12))
    with pytest.raises(UserError, match=r"mine: group: 'g0', 'g1', .* in both the training and the test part"):
        manifest.train_counts(of_manifest(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "list.csv: cannot be read (No such file or directory); allowed: a CSV file"),
        (b"path,label\n\xff,1\n", "cannot be read ('utf-8' codec"),
        (b"file,label\n", "no column 'path'; allowed: path, label, split, group"),
        (b"path,label\n", "1 lines; allowed: a header and a row for each image"),
        (b"path,label\na.png\n", "row 2: 2 fields are in the header; allowed: as many"),
        (b"path,label\na.png,x,y\n", "row 2: 2 fields are in the header; allowed: as many"),
        (b"path,label\na.png,\n", "row 2: label: ''; allowed: printable text"),
        (b"path,label\na.png,=1+1\nb.png,y\n", "class name '=1+1' is a formula in a spreadsheet"),
        (b"path,label\na.png,y\nb.png,y \n", "the classes 'y' and 'y ' look the same"),
        (b"path,label\n=a.png,x\n", "row 2: path: '=a.png'; allowed: no formula of a spreadsheet"),
        (b"path,label\n../a.png,x\n", "row 2: path: '../a.png'; allowed: a path below"),
        (b"path,label\n/etc/a.png,x\n", "row 2: path: '/etc/a.png'; allowed: a path below"),
        (b"path,label\na.png,x\n", "1 label(s); allowed: at least 2"),
        (b"path,label,split\na.png,x,train\nb.png,y,\n", "row 3: split: ''; allowed: train, val, test"),
        (b"path,label,split\na.png,x,train\nb.png,y,train\n", "split: ['train']; allowed: train with test or val"),
        (b"path,label\na.png,x\nb.png,y\n", "2 of 2 files are no whole images: "),
    ],
)
def test_a_manifest_that_cannot_serve_is_one_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        manifest.load(of_manifest(tmp_path), 16, 1)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("data: mine: ")


def test_published_lists(tmp_path):
    """Lines as ImageNet-LT and iNaturalist have them; copies stay as they are."""
    names = images(tmp_path, ["train/n01440764/n01440764_190.JPEG", *(f"val/{i} x.png" for i in range(7))])
    labels = [0, 1, 0, 1, 1, 0, 1, 0]
    lines = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    (tmp_path / "train.txt").write_text("\n".join(lines[:5]) + "\n\n")
    (tmp_path / "test.txt").write_text("\r\n".join(lines[5:]))
    Image.new("L", (20, 30), 1).save(tmp_path / names[6])  # as a training image of the same class
    ask = of_lists(tmp_path, test="test.txt")
    data = lists.load(ask, 16, 1)
    assert data.classes == ("0", "1") and lists.train_counts(ask) == [2, 3]
    assert data.train_labels.tolist() == labels[:5] and data.test_labels.tolist() == labels[5:]
    assert levels(data.test_images) == [5, 1, 7]
    assert len(lists.load(of_lists(tmp_path, test_per_class={"fraction": 0.0, "least": 0}), 16, 1).test_labels) == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "train: {root}/train.txt: cannot be read (No such file or directory); allowed: `path label` per line"),
        ("", "train: {root}/train.txt: no line; allowed: `path label` per line"),
        ("a.png\n", "line 1: 'a.png'; allowed: a path below {root} and a number from 0"),
        ("a.png 0\nb.png x1\n", "line 2: 'b.png x1'; allowed: a path below"),
        ("../a.png 0\n", "line 1: '../a.png 0'; allowed"),
        ("a.png 0\na.png 1\n", "train: 1 file(s) listed twice; allowed: each once, in one list"),
        ("a.png 0\nb.png 2\n", "train: no image of label 1; allowed: 0 to K - 1, at least two"),
    ],
)
def test_a_list_that_cannot_serve_is_one_line(tmp_path, content, said):
    if content is not None:
        (tmp_path / "train.txt").write_text(content)
    with pytest.raises(UserError) as caught:
        lists.load(of_lists(tmp_path), 16, 1)
    assert said.format(root=tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_two_sets_of_one_folder_share_what_both_list(tmp_path):
    (tmp_path / "train.txt").write_text("a.png 0\nb.png 1\n")
    (tmp_path / "other.txt").write_text("c.png 0\nd.png 1\n")
    one, other = of_lists(tmp_path), of_lists(tmp_path, name="other", train="other.txt")
    assert lists.shared_images(one, other) is None
    (tmp_path / "other.txt").write_text("c.png 0\nb.png 1\n")
    assert lists.shared_images(one, other) == "train: 'train.txt' lists 1 of the same files"
