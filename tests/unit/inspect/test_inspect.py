import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tailnas.inspect.__main__ import inspected, text
from tailnas.inspect.duplicates import near_groups, same_groups
from tailnas.inspect.files import SIDE, fingerprint
from tailnas.inspect.picture import draw
from tailnas.inspect.summary import recall_half_width
from tailnas.sources import folder


def photograph(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Smooth random colours: no two are alike, as with photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def fill(root: Path, sizes: dict[str, int], first: int = 0) -> Path:
    for name, count in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            photograph(first).save(root / name / f"{index:03}.png")
            first += 1
    return root


def test_counts_factor_and_what_each_recall_can_be_known_to(tmp_path) -> None:
    summary = inspected(fill(tmp_path / "birds", {"Möwe": 20, "tern": 5, "auk": 40}))
    assert [(size.name, size.training) for size in summary.classes()] == [("auk", 40), ("Möwe", 20), ("tern", 5)]
    assert summary.imbalance_factor == 8
    assert summary.findings() == []
    printed = text(summary)
    assert "65 images in 3 classes, imbalance factor 8" in printed
    assert "48x40" in printed and "RGB 65" in printed


def test_wilson_by_hand() -> None:
    """Score interval of 5 of 10: centre 1/2, half width z sqrt(p q / n + z^2 / 4 n^2) / (1 + z^2 / n)."""
    z, n = 1.959963984540054, 10
    assert recall_half_width(10) == pytest.approx(z * (0.25 / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n))
    assert recall_half_width(0) == 1


@pytest.mark.parametrize("sizes", [{"a": 5, "b": 2}, {"a": 300, "b": 40}, {"a": 900, "b": 700}])
def test_the_block_to_paste_is_one_that_the_folder_source_takes(tmp_path, sizes) -> None:
    root = tmp_path / "it's mine: #1"
    for name, count in sizes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (30, 21), index % 256).save(root / name / f"{index}.png")
    summary = inspected(root)
    block = yaml.safe_load(summary.suggestion())
    assert block["data"]["image_size"] == 20 and block["data"]["channels"] == 1
    target = {key: value for key, value in block["data"]["target"].items() if key != "kind"}
    settings = folder.Settings.model_validate(target)
    by_name = sorted(summary.classes(), key=lambda size: size.name)
    assert min(folder.train_counts(settings)) >= 2
    assert [s.training - t for s, t in zip(by_name, folder.train_counts(settings), strict=True)] == [
        summary.tested(s) for s in by_name
    ]
    assert settings.path == str(root)


@pytest.mark.parametrize(
    ("parts", "sizes", "found"),
    [
        (
            ("Train", "Valid", "Testing"),
            [("a", 6 + 2, 3), ("b", 5 + 1, 2)],
            ["val joins train, since the search cuts its"],
        ),
        (("Train", "Valid"), [("a", 6, 2), ("b", 5, 1)], ["val is the test part, since there is no test"]),
        (("Train", "Testing"), [("a", 6, 3), ("b", 5, 2)], []),
    ],
)
def test_parts_are_recognised_by_their_usual_names_and_used_as_the_folder_source_does(
    tmp_path, parts, sizes, found
) -> None:
    images = {"Train": {"a": 6, "b": 5}, "Valid": {"a": 2, "b": 1}, "Testing": {"a": 3, "b": 2}}
    for index, part in enumerate(parts):
        fill(tmp_path / part, images[part], first=50 * index)
    summary = inspected(tmp_path)
    assert [(size.name, size.training, size.held_out) for size in summary.classes()] == sizes
    assert summary.test_per_class is None
    assert [summary.tested(size) for size in summary.classes()] == [tested for *_, tested in sizes]
    assert [line[: len(start)] for line, start in zip(summary.findings(), found, strict=True)] == found
    settings = folder.Settings(
        path=str(tmp_path), name="x", test_per_class=None, group=None, unreadable="refuse", seed=0
    )
    assert folder.train_counts(settings) == [training for _, training, _ in sizes]


def test_a_copy_in_val_leaks_where_val_is_tested_on(tmp_path) -> None:
    root = fill(tmp_path, {"train/a": 4, "train/b": 4})
    fill(root, {"val/a": 1})  # of train/a, the first
    leak = "1 group of images identical to the pixel in training and in the test part"
    found = inspected(root).findings()
    assert any(line.startswith(leak) for line in found) and "val/ has no image of 'b'" in found
    fill(root, {"test/a": 2, "test/b": 2}, first=60)
    assert not any(line.startswith(leak) for line in inspected(root).findings())


def test_a_class_called_test_is_a_class(tmp_path) -> None:
    assert {size.name for size in inspected(fill(tmp_path, {"test": 5, "train": 6})).classes()} == {"test", "train"}


def test_copies_are_found_where_they_lie(tmp_path) -> None:
    root = fill(tmp_path, {"train/a": 8, "train/b": 8, "test/a": 3, "test/b": 3})
    photograph(0).save(root / "test/a/again.png", compress_level=1)  # of train/a, other bytes, the same pixels
    photograph(1).save(root / "train/b/other class.png")
    photograph(9).save(root / "train/b/recompressed.jpg", quality=80)
    summary = inspected(root)
    found = "\n".join(summary.findings())
    assert "1 group of images identical to the pixel in training and in the test part, such as 'test/a/again.p" in found
    assert "1 group of images identical to the pixel under several classes, such as" in found
    files = summary.files.set_index("file")
    assert files.loc["train/b/recompressed.jpg", "same"] == -1
    assert files.loc["train/b/recompressed.jpg", "near"] == files.loc["train/b/001.png", "near"] >= 0
    assert (files["near"] >= 0).sum() == 6


def test_frames_of_one_scene_are_told(tmp_path) -> None:
    """Tracks of 30 frames: each the same scene, a little brighter and noisier, moved by a pixel now and then."""
    rng = np.random.default_rng(0)
    for track in range(4):
        folder = tmp_path / "ab"[track % 2]
        folder.mkdir(exist_ok=True)
        scene = np.asarray(photograph(track, (72, 64)), np.float64)
        for frame in range(30):
            shift = frame // 10
            moved = scene[:, shift : shift + 64] * (1 + 0.01 * frame) + rng.normal(0, 4, (64, 64, 3))
            Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(folder / f"{track}-{frame:02}.png")
    summary = inspected(tmp_path)
    (line,) = [line for line in summary.findings() if "sequence" in line]
    assert line.startswith("4 sequences of 4 or more nearly identical images (120 in all, the longest 30, from ")


def test_unreadable_files_small_classes_and_long_images_are_named(tmp_path) -> None:
    root = fill(tmp_path, {"a": 9, "b": 2})
    (root / "a" / "broken.png").write_bytes(b"not a png")
    photograph(99, (100, 20)).save(root / "a" / "long.png")
    found = inspected(root).findings()
    assert found[0] == "1 file no whole image: 'a/broken.png' (not an image)"
    assert found[1].startswith("1 class of fewer than 3 images to train and test on: 'b' (2)")
    assert found[2].startswith("1 image with one side over twice the other")


def test_near_groups_against_all_pairs() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(40, SIDE * SIDE))
    rows = np.concatenate([base, base[:7] + 0.02 * rng.normal(size=(7, SIDE * SIDE)), np.zeros((2, SIDE * SIDE))])
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    groups = near_groups(rows.astype(np.float32), 0.98)
    expected = {frozenset((i, 40 + i)) for i in range(7)}
    assert {frozenset(np.flatnonzero(groups == g).tolist()) for g in range(groups.max() + 1)} == expected
    assert np.corrcoef(base[0], rows[40])[0, 1] > 0.98


def test_same_groups_ignore_what_was_not_read() -> None:
    import pandas as pd

    assert same_groups(pd.Series(["x", "", "y", "x", "", "z"])).tolist() == [0, -1, -1, 0, -1, -1]


def test_a_flat_image_has_no_fingerprint() -> None:
    assert not fingerprint(Image.new("L", (32, 32), 90)).any()
    assert np.linalg.norm(fingerprint(photograph(3).convert("L"))) == pytest.approx(1, abs=1e-6)


def test_the_command(tmp_path) -> None:
    root = fill(tmp_path / "images", {"a": 6, "b": 5})
    out = tmp_path / "look"
    command = [sys.executable, "-m", "tailnas.inspect", str(root), "--output", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "For params.yaml:" in done.stdout, done.stderr
    with Image.open(out / "inspection.png") as picture:
        assert picture.width > 1000
    assert len((out / "files.csv").read_text().splitlines()) == 12
    done = subprocess.run([*command[:3], str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'none'}: no such folder; allowed: a folder with one directory per class\n"


def test_a_picture_of_many_classes_without_any_whole_image(tmp_path) -> None:
    for index in range(45):
        (tmp_path / f"c{index}").mkdir()
        (tmp_path / f"c{index}" / "x.png").write_bytes(b"")
    summary = inspected(tmp_path)
    assert "no whole image" in text(summary)
    draw(summary, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
