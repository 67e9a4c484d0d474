import csv
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailnas.data.dataset import save
from tailnas.data.origin import files_of
from tailnas.fetch.class_folders import files_below, names_below, subfolders
from tailnas.fetch.image_file import Unreadable, read_image
from tailnas.foundation.errors import UserError
from tailnas.sources import folder


def settings(path: Path, **changes) -> folder.Settings:
    given = {"test_per_class": 2, "group": None, "unreadable": "refuse", "seed": 0}
    return folder.Settings(**{"name": "mine", "path": str(path), **given, **changes})


def fill(root: Path, sizes: dict[str, int], first: int = 0) -> Path:
    """Images whose grey level tells them apart: `first`, `first` + 1, ..."""
    level = first
    for name, count in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("L", (20, 30), level).save(root / name / f"image {i}.png")
            level += 1
    return root


def levels(images: np.ndarray) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_one_directory_per_class(tmp_path) -> None:
    fill(tmp_path, {"b": 7, "a cat": 5, "Ü": 4})
    ask = settings(tmp_path)
    data = folder.load(ask, 16, 1)
    assert data.classes == ("a cat", "b", "Ü") == folder.class_names(ask)
    assert data.train_images.shape == (10, 1, 16, 16)
    assert np.bincount(data.train_labels).tolist() == [3, 5, 2] == folder.train_counts(ask)
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2]
    assert sorted(levels(data.train_images) + levels(data.test_images)) == list(range(16))
    of_class = {level: "b" if level < 7 else "a cat" if level < 12 else "Ü" for level in range(16)}
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert [of_class[level] for level in levels(images)] == [data.classes[label] for label in labels]
    assert (data.name, data.kind) == ("mine", "folder")


def test_the_test_part_is_the_seeds(tmp_path) -> None:
    fill(tmp_path, {"a": 20, "b": 20})
    first, again, other = (folder.load(settings(tmp_path, seed=seed), 16, 1).test_images for seed in (0, 0, 1))
    assert levels(first) == levels(again) != levels(other)


def test_a_test_part_of_its_own_is_used_whole(tmp_path, capsys) -> None:
    fill(tmp_path / "train", {"a": 3, "b": 4})
    fill(tmp_path / "test", {"a": 5, "b": 2}, first=100)
    (tmp_path / "notes").mkdir()
    ask = settings(tmp_path, test_per_class=None)
    data = folder.load(ask, 16, 3)
    assert levels(data.train_images) == list(range(7))
    assert np.bincount(data.train_labels).tolist() == [3, 4] == folder.train_counts(ask)
    assert levels(data.test_images) == list(range(100, 107))
    assert np.bincount(data.test_labels).tolist() == [5, 2]
    assert "path: warning: 'notes' beside train/ and the test part are not read" in capsys.readouterr().out
    told(settings(tmp_path), "test_per_class: 2; allowed: null, since the data has a test part, which is used whole")


def test_val_is_the_test_part_or_joins_the_training_images(tmp_path, capsys) -> None:
    fill(tmp_path / "train", {"a": 3, "b": 4})
    fill(tmp_path / "val", {"a": 2, "b": 1}, first=50)
    ask = settings(tmp_path, test_per_class=None)
    data = folder.load(ask, 16, 1)
    assert (levels(data.train_images), levels(data.test_images)) == (list(range(7)), [50, 51, 52])
    assert "val is the test part, since there is no test" in capsys.readouterr().out
    fill(tmp_path / "testing", {"a": 1, "b": 1}, first=100)
    data = folder.load(ask, 16, 1)
    assert levels(data.train_images) == [0, 1, 2, 50, 51, 3, 4, 5, 6, 52]
    assert data.train_labels.tolist() == [0] * 5 + [1] * 5
    assert levels(data.test_images) == [100, 101]
    assert folder.train_counts(ask) == [5, 5]
    assert "val joins train, since the search cuts its own half of the training images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("share", "tested"),
    [
        ({"fraction": 0.25, "least": 2}, [30, 10, 2, 2]),
        ({"fraction": 0.5, "least": 0}, [60, 20, 4, 2]),
        ({"fraction": 0.9, "least": 1}, [108, 36, 7, 2]),  # 2 stay for training
        ({"fraction": 0.0, "least": 2}, [2, 2, 2, 2]),
    ],
)
def test_an_uneven_test_part(tmp_path, share, tested) -> None:
    sizes = {"a": 120, "b": 40, "c": 9, "d": 4}
    fill(tmp_path, sizes)
    ask = settings(tmp_path, test_per_class=share)
    data = folder.load(ask, 16, 1)
    assert np.bincount(data.test_labels).tolist() == tested
    assert np.bincount(data.train_labels).tolist() == folder.train_counts(ask)
    assert sorted(levels(data.train_images) + levels(data.test_images)) == list(range(173))


def test_groups_lie_in_one_part(tmp_path) -> None:
    """Tracks of 30 frames, two of them across classes."""
    rng = np.random.default_rng(0)
    for track in range(12):
        for frame in range(30):
            name = "ab"[track % 2] if track < 10 else "ab"[frame % 2]
            (tmp_path / name).mkdir(exist_ok=True)
            pixels = rng.integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"track{track:02}-{frame:02}.png")
    share = {"fraction": 0.3, "least": 1}
    data = folder.load(settings(tmp_path, test_per_class=share, group=r"track\d+"), 16, 1)
    groups, training = np.array(data.origin.groups), len(data.train_labels)
    assert len(set(groups)) == 12
    assert not set(groups[:training]) & set(groups[training:])
    assert np.bincount(data.test_labels).tolist() == pytest.approx([54, 54], abs=16)
    whole = folder.load(settings(tmp_path, test_per_class=share), 16, 1)
    tracks = np.array([name.split("/")[1].split("-")[0] for name in whole.origin.files])
    assert set(tracks[:training]) & set(tracks[training:]), "without groups, frames of a track lie on both sides"
    told(settings(tmp_path, group=r"a/track(\d+)"), "group: ", "is not found in 180 of 360 names")
    told(settings(tmp_path, group="track"), "group: 'a' has 1, 'b' has 1 group(s); allowed: 3 in each class")
    lacking = settings(tmp_path, test_per_class={"fraction": 0.3, "least": 0}, group="track")
    told(lacking, "group: no test image; allowed: 2 images of each class for training")


def test_unreadable_files_are_skipped_where_asked_and_recorded(tmp_path, capsys) -> None:
    fill(tmp_path, {"a": 6, "b": 6})
    for name in ("a/x.png", "b/y.png"):
        (tmp_path / name).write_bytes(b"no image")
    data = folder.load(settings(tmp_path, unreadable="skip"), 16, 1)
    fresh = folder.load(settings(fill(tmp_path / "fresh", {"a": 6, "b": 6})), 16, 1)
    assert levels(data.test_images) == levels(fresh.test_images), "as if the files were not there"
    assert levels(data.train_images) == levels(fresh.train_images)
    assert sorted(data.origin.skipped) == [("a/x.png", "a", "not an image"), ("b/y.png", "b", "not an image")]
    assert "warning: skipped 2 file(s), listed in files.csv" in capsys.readouterr().out
    save(data, tmp_path / "saved")
    rows = list(csv.DictReader((tmp_path / "saved/files.csv").open()))
    assert [row["file"] for row in rows if row["problem"]] == [name for name, *_ in data.origin.skipped]
    assert [row["file"] for row in rows if row["part"] == "test"] == files_of(tmp_path / "saved", "test", 4)
    for row in rows:
        if row["part"]:
            level = {"train": data.train_images, "test": data.test_images}[row["part"]][int(row["row"])].max()
            assert Image.open(tmp_path / row["file"]).getpixel((0, 0)) == level


def test_classes_may_be_called_train_and_test(tmp_path) -> None:
    fill(tmp_path, {"train": 4, "test": 4, "plane": 4})
    assert folder.class_names(settings(tmp_path)) == ("plane", "test", "train")


def test_what_file_managers_leave_is_ignored(tmp_path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a/.DS_Store").write_bytes(b"x")
    (tmp_path / "b/Thumbs.db").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.txt").write_text("about")
    assert folder.train_counts(settings(tmp_path)) == [2, 2]
    assert len(folder.load(settings(tmp_path), 16, 1).train_labels) == 4


def test_deeper_directories_and_links(tmp_path) -> None:
    fill(tmp_path / "store", {"x": 6, "y": 3}, first=50)
    root = fill(tmp_path / "root", {"a": 3})
    (root / "b").symlink_to(tmp_path / "store/x")
    (root / "a/deep/er").mkdir(parents=True)
    (root / "a/deep/er/one.png").symlink_to(tmp_path / "store/y/image 0.png")
    (root / "a/deep/loop").symlink_to(root / "a")
    assert folder.train_counts(settings(root)) == [2, 4]
    assert len(folder.load(settings(root), 16, 1).train_labels) == 6


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names(tmp_path, link) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    link(tmp_path / "a/image 0.png", tmp_path / "b/again.png")
    with pytest.raises(UserError, match=r"image 0\.png' and .*again\.png' are the same file"):
        folder.load(settings(tmp_path), 16, 1)


@pytest.mark.parametrize(
    ("copies", "crossing"),
    [
        ({"train/a/image 0.png": "train/b/again.png"}, True),
        ({"train/a/image 0.png": "test/a/again.png"}, True),
        ({"train/a/image 0.png": "train/a/again.png"}, False),
        ({"test/b/image 0.png": "test/b/again.png"}, False),
    ],
)
@pytest.mark.parametrize("exact", [True, False], ids=["byte by byte", "pixel by pixel"])
def test_the_same_image_in_two_files(tmp_path, capsys, copies, crossing, exact) -> None:
    """Refused in two classes or two parts, whatever the format; named where it stays within one."""
    fill(tmp_path / "train", {"a": 4, "b": 4})
    fill(tmp_path / "test", {"a": 4, "b": 4}, first=100)
    ((one, other),) = copies.items()
    if exact:
        shutil.copy(tmp_path / one, tmp_path / other)
    else:
        other = other.replace("png", "bmp")
        Image.open(tmp_path / one).convert("RGB").save(tmp_path / other)
    ask = settings(tmp_path, test_per_class=None)
    if crossing:
        text = told(ask, "path: 1 image(s) in two classes or in both the training and the test part: ", other)
        assert f"{str(tmp_path / one)!r} = " in text or f" = {str(tmp_path / one)!r}" in text
        return
    folder.load(ask, 16, 3)
    said = capsys.readouterr().out
    assert said.startswith("data: mine: path: warning: 1 image(s) more than once in a class: ") and other in said


def test_a_copy_that_the_seed_puts_into_both_parts(tmp_path) -> None:
    fill(tmp_path, {"a": 4, "b": 5})
    for i in range(4):
        shutil.copy(tmp_path / f"a/image {i}.png", tmp_path / f"a/again {i}.png")
    told(settings(tmp_path, test_per_class=3), "image(s) in two classes or in both the training and the test part")


def told(ask: folder.Settings, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        folder.load(ask, 16, 3)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("data: mine: ", *parts):
        assert part in text
    return text


def test_unreadable_files_are_all_named(tmp_path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    whole = tmp_path / "a/image 0.png"
    bad = {
        "empty.png": b"",
        "text.jpg": b"no image",
        "cut.png": whole.read_bytes()[:-30],
        "header.png": whole.read_bytes()[:20],
        "notes\nof two lines.txt": b"notes",
        "figure.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    }
    for name, raw in bad.items():
        (tmp_path / "b" / name).write_bytes(raw)
    (tmp_path / "b/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "b/itself.png").symlink_to(tmp_path / "b/itself.png")
    os.mkfifo(tmp_path / "b/pipe.png")
    text = told(
        settings(tmp_path), "path: 9 of 17 files", "empty.png' (0 bytes)", "text.jpg' (not an image)", "allowed: "
    )
    for name in (*bad, "gone.png", "itself.png", "pipe.png"):
        assert name.replace("\n", "\\n") in text


@pytest.mark.parametrize("cut", [1, 12, 20])
def test_a_png_without_its_end_is_no_whole_image(tmp_path, cut) -> None:
    photograph().save(path := tmp_path / "x.png")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(Unreadable, match="ends early"):
        read_image(path, 16, 3)


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_png_with_a_flipped_bit_is_no_whole_image(tmp_path, bit) -> None:
    photograph().save(path := tmp_path / "x.png")
    content = bytearray(path.read_bytes())
    for place in range(16, len(content), 41):
        content[place] ^= 1 << bit
        path.write_bytes(content)
        with pytest.raises(Unreadable):
            read_image(path, 16, 3)
        content[place] ^= 1 << bit


def test_many_unreadable_files_are_counted(tmp_path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    for i in range(40):
        (tmp_path / f"b/bad{i:02}.png").write_bytes(b"")
    text = told(
        settings(tmp_path), "path: 40 of 48 files", "'{}' (0 bytes) and 30 more".format(tmp_path / "b/bad09.png")
    )
    assert "bad10" not in text


def photograph(mode: str = "RGB") -> Image.Image:
    x, y = np.meshgrid(np.arange(48), np.arange(32))
    return Image.fromarray(np.stack([x * 5, y * 7, (x + y) * 3], -1).astype(np.uint8)).convert(mode)


def read(
    tmp_path: Path, image: Image.Image, name: str = "x.png", size: int = 32, channels: int = 3, **options
) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return np.broadcast_to(read_image(tmp_path / name, size, channels), (channels, size, size)).astype(int)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "x.png"), ("RGBA", "x.png"), ("P", "x.png"), ("P", "x.gif"), ("RGB", "x.bmp"), ("RGB", "x.webp"),
        ("CMYK", "x.tiff"), ("YCbCr", "x.tiff"), ("CMYK", "x.jpg"), ("RGB", "x.jpg"), ("RGB", "x.ppm"),
        ("RGBA", "x.tga"), ("PA", "x.tiff"),
    ],
)  # fmt: skip
def test_colour_modes_keep_their_colours(tmp_path, mode, name, channels) -> None:
    image = photograph().convert("RGB").quantize(256) if mode == "P" else photograph()
    if mode == "PA":
        image = image.quantize(256)
    expected = np.asarray(photograph("L" if channels == 1 else "RGB").resize((32, 32), Image.Resampling.BILINEAR))
    expected = expected[None] if channels == 1 else expected.transpose(2, 0, 1)
    found = read(tmp_path, image.convert(mode), name, channels=channels)
    assert np.abs(found - expected).mean() < 8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_modes(tmp_path, mode, channels) -> None:
    found = read(tmp_path, photograph("L").convert(mode), channels=channels)
    expected = np.asarray(photograph("L").resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("name", "dtype"), [("x.png", "<u2"), ("x.tiff", "<u2"), ("x.tiff", ">u2")])
def test_sixteen_bits(tmp_path, name, dtype) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(dtype)
    found = read(tmp_path, Image.fromarray(ramp), name, channels=1)
    assert np.abs(found[0] - ramp / 257).max() <= 0.51
    assert found.max() == 255


def test_thirty_two_bits_and_fractions(tmp_path) -> None:
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    for values in ((ramp * 65535).astype(np.int32), (ramp * (2**31 - 1)).astype(np.int32), ramp.astype(np.float32)):
        found = read(tmp_path, Image.fromarray(values), "x.tiff", channels=1)
        assert np.abs(found[0] - ramp * 255).max() <= 0.51
    broken = ramp.astype(np.float32) * 255
    broken[0, :3] = np.nan, np.inf, -np.inf
    assert read(tmp_path, Image.fromarray(broken), "x.tiff", channels=1)[0, 0, :3].tolist() == [0, 255, 0]


def test_one_bit(tmp_path) -> None:
    image = Image.new("1", (32, 32))
    image.paste(1, (0, 0, 16, 32))
    for name in ("x.png", "x.tiff", "x.bmp"):
        found = read(tmp_path, image, name)
        assert (found[:, :, :16] == 255).all()
        assert (found[:, :, 16:] == 0).all()


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (8, 8), (10, 20, 30, 0)),
        Image.new("LA", (8, 8), (10, 0)),
    ],
)
def test_transparent_parts_are_white(tmp_path, image) -> None:
    assert (read(tmp_path, image) == 255).all()


def test_transparent_palette_colours_are_white(tmp_path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    assert (read(tmp_path, image, "x.png", transparency=1) == 255).all()
    assert (read(tmp_path, image, "x.gif", transparency=1) == 255).all()
    assert read(tmp_path, image, "y.png")[:, 0, 0].tolist() == [200, 10, 10]


def test_animations_show_their_first_frame(tmp_path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for name in ("x.gif", "x.png", "x.webp", "x.tiff"):
        found = read(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
        assert found[:, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_photographs_are_turned_upright(tmp_path) -> None:
    image = Image.new("L", (32, 32))
    image.paste(255, (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3
    found = read(tmp_path, image, "x.jpg", channels=1, exif=exif, quality=100)
    assert found[0, :14].max() < 20
    assert found[0, 18:].min() > 235
    assert read(tmp_path, image, "y.jpg", channels=1, exif=b"Exif\x00\x00nonsense")[0, :14].min() > 235


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2000, 3), (16, 16), (17, 15)])
def test_any_shape(tmp_path, shape) -> None:
    assert (read(tmp_path, Image.new("RGB", shape, (9, 8, 7)), size=16).reshape(3, -1).T == [9, 8, 7]).all()


def test_too_many_pixels(tmp_path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0), b"IDAT"]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    (tmp_path / "a/large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    told(settings(tmp_path), "path: 1 of 9 files", "large.png' (Image size (400000000 pixels) exceeds limit")


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.bmp", "x.tiff", "x.webp", "x.tga", "x.ppm"])
def test_random_damage_is_read_or_refused(tmp_path, name) -> None:
    photograph().save(tmp_path / name)
    whole = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
        damaged[rng.integers(0, len(damaged), 4)] = rng.integers(0, 256, 4)
        (tmp_path / name).write_bytes(damaged.tobytes())
        try:
            assert read_image(tmp_path / name, 16, 3).dtype == np.uint8
        except Unreadable as error:
            assert "\n" not in str(error)


def test_folders_that_cannot_serve(tmp_path) -> None:
    told(settings(tmp_path / "none"), "path: ", "none: no such folder")
    (tmp_path / "file").write_bytes(b"x")
    told(settings(tmp_path / "file"), "is not a folder")
    root = tmp_path / "root"
    root.mkdir()
    told(settings(root), ": 0 directories")
    fill(root, {"a": 4})
    told(settings(root), ": 1 directories; allowed: one per class, at least 2")
    (root / "empty class").mkdir()
    (root / "nothing").mkdir()
    (root / "nothing/.hidden").write_bytes(b"x")
    told(settings(root), "no files in 'empty class', 'nothing'; allowed: at least one image")
    fill(root, {"empty class": 3, "nothing": 2})
    told(
        settings(root),
        "test_per_class: 2 and 2 for training are 4 images of each class, but 'empty class' has 3, 'nothing' has 2; "
        "allowed: up to 0 (with split.profile natural; other profiles need more images), {fraction: 0.2, least: 0}, ",
    )
    assert folder.train_counts(settings(root, test_per_class={"fraction": 0.2, "least": 0})) == [3, 2, 2]
    fill(root, {"line\nbreak": 4})
    told(settings(root), r"class name 'line\nbreak'; allowed: printable UTF-8")


def test_names_that_are_no_text(tmp_path) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "b").rename(tmp_path / os.fsdecode(b"\xff\xfe"))
    told(settings(tmp_path), r"class name '\udcff\udcfe'; allowed: printable UTF-8")


def test_a_relative_folder_in_the_copy_of_an_experiment(tmp_path, monkeypatch) -> None:
    (copy := tmp_path / ".dvc/tmp/exps/standalone/tmpabc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    told(settings(Path("birds")), "birds: no such folder in the copy in which `dvc exp run --temp` computes: name it ")
    assert "exp run" not in told(settings(tmp_path / "birds"), "no such folder")


def test_half_a_layout(tmp_path) -> None:
    fill(tmp_path / "train", {"a": 4, "b": 4})
    told(settings(tmp_path), "train/ holds class directories; allowed: train/ with test/ or val/, or none of them")
    fill(tmp_path / "test", {"a": 4, "c": 4}, first=50)
    told(settings(tmp_path), "'b', 'c' in one of train/ and test/ alone")
    fill(tmp_path / "test", {"b": 1}, first=60)
    fill(tmp_path / "train", {"c": 1}, first=70)
    told(settings(tmp_path, test_per_class=None), "path: training images are left of 'c' (1); allowed: 2 images")


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAINING", "testing"), ("training", "test")])
def test_other_spellings_of_train_and_test(tmp_path, names) -> None:
    for name, first in zip(names, (0, 100), strict=True):
        fill(tmp_path / name, {"a": 4, "b": 4}, first=first)
    assert folder.class_names(settings(tmp_path)) == ("a", "b")
    assert levels(folder.load(settings(tmp_path, test_per_class=None), 16, 1).test_images) == list(range(100, 108))


@pytest.mark.parametrize("name", ["=cmd|' C'!A0", "+1", "-2", "@SUM(A1)"])
def test_a_class_name_that_is_a_formula(tmp_path, name) -> None:
    fill(tmp_path, {"a": 4, name: 4})
    told(settings(tmp_path), f"class name {name!r} is a formula", "; allowed: another first character than = + - @")


def test_parts_of_the_data_are_no_classes(tmp_path) -> None:
    for name in ("fold 1", "fold 2"):
        fill(tmp_path / name, {"a": 4, "b": 4})
    told(settings(tmp_path), "'fold 1', 'fold 2' all hold the same directories ('a', 'b'), and no files of their own")
    fill(tmp_path, {"fold 1": 1})
    assert folder.class_names(settings(tmp_path)) == ("fold 1", "fold 2")


def test_train_twice(tmp_path) -> None:
    for name in ("Train", "training", "test"):
        fill(tmp_path / name, {"a": 4, "b": 4})
    told(
        settings(tmp_path),
        "'Train', 'test', 'training'; allowed: one for training, one for validation and one for test",
    )


@pytest.mark.parametrize(("one", "other"), [("\u00fc", "u\u0308"), ("crow", "crow ")])
def test_classes_that_look_the_same(tmp_path, one, other) -> None:
    fill(tmp_path, {one: 4, other: 4, "c": 4})
    told(settings(tmp_path), f"{min(one, other)!a} and {max(one, other)!a} look the same")


def test_an_image_that_takes_much_memory_says_so_before(tmp_path, monkeypatch, capsys) -> None:
    """Of 2000 x 1000 pixels in colour, of each of which Pillow keeps four bytes."""
    fill(tmp_path, {"a": 5, "b": 5})
    Image.new("RGB", (2000, 1000)).save(tmp_path / "a/scan.png")
    Image.new("RGB", (2000, 1000)).save(tmp_path / "a/photo.jpg")
    monkeypatch.setattr("tailnas.fetch.image_file.MUCH", 2**22)
    folder.load(settings(tmp_path), 16, 1)
    assert f"data: mine: '{tmp_path}/a/scan.png': 2000 x 1000 pixels take 7.6 MiB of memory" in capsys.readouterr().out
    monkeypatch.setattr("tailnas.fetch.image_file.memory", lambda: 2**22)
    with pytest.raises(
        UserError,
        match=r"1 of 12 files .*scan\.png' \(2000 x 1000 pixels take 7\.6 MiB of memory to read, of 4\.0 MiB",
    ):
        folder.load(settings(tmp_path), 16, 1)


def test_want_of_memory_is_not_the_files_fault(tmp_path, monkeypatch) -> None:
    fill(tmp_path, {"a": 5, "b": 5})

    def full(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", full)
    with pytest.raises(MemoryError):
        folder.load(settings(tmp_path), 16, 1)


@pytest.mark.parametrize("root", [".", "/", "a", "./a/", "../b", "/x/y/"])
def test_names_below_a_folder(root) -> None:
    file = Path(root) / "c" / "d e.png"
    assert names_below(Path(root), [file]) == [file.relative_to(Path(root)).as_posix()] == ["c/d e.png"]


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path) -> None:
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (tmp_path / "b").mkdir()
    assert [*files_below(tmp_path, "path")] == [tmp_path / "round.png"]
    assert subfolders(tmp_path, "path") == [tmp_path / "b"]
