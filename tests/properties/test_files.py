"""Any folder of images, archive or model file is used, or refused in one line that names it."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from tailnas.data.dataset import FILES, Dataset, load_meta, load_test, load_tested, load_train
from tailnas.data.dataset import save as save_dataset
from tailnas.data.origin import Origin, read_groups
from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import DARTS_V2
from tailnas.sources import cifar10, folder
from tailnas.space.network import Network, load_model, save_model
from tailnas.space.weights import read_weights

FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "ppm": "PPM"}
NAMES = [
    "a",
    "b",
    "Ü",
    "u\u0308",
    "train",
    "Test",
    "a b",
    " a",
    ".hidden",
    "-rf",
    "=cmd",
    "x" * 200,
    "a\nb",
    "\u202e",
    "*",
]
slow = pytest.mark.slow


def bounded(examples: int) -> settings:
    """Few examples are the same every day; many are drawn anew."""
    return settings(
        max_examples=examples,
        deadline=30_000,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=examples < 100,
    )


def one_line(error: UserError) -> None:
    assert len(str(error).splitlines()) == 1 and str(error).isprintable() and "; allowed: " in str(error), str(error)


@st.composite
def contents(draw: st.DrawFn) -> tuple[str, bytes]:
    """The ending and bytes of a file that is, was or never was an image."""
    ending = draw(st.sampled_from(list(FORMATS)))
    mode = draw(st.sampled_from(["L", "RGB", "1", "P", "RGBA", "LA", "CMYK", "I;16", "F", "I"]))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    content = io.BytesIO()
    try:
        Image.new(mode, size, draw(st.integers(0, 1))).save(content, FORMATS[ending])
    except (OSError, ValueError, KeyError):
        Image.new("L", size).save(content, FORMATS[ending])
    whole = bytearray(content.getvalue())
    damage = draw(st.sampled_from(["none", "none", "none", "cut", "flip", "empty", "text"]))
    if damage == "cut":
        del whole[draw(st.integers(0, len(whole) - 1)) :]
    if damage == "flip":
        whole[draw(st.integers(0, len(whole) - 1))] ^= draw(st.integers(1, 255))
    return ending, {"empty": b"", "text": b"no image"}.get(damage, bytes(whole))


@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=[slow, pytest.mark.timeout(3600)])])
def test_any_folder_of_images(tmp_path, examples):
    @bounded(examples)
    @given(st.data())
    def check(data):
        root = tmp_path / "images"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
            inside = root / name / data.draw(st.sampled_from(["", "", "", "deep", "deep/er"]))
            inside.mkdir(parents=True)
            for i in range(data.draw(st.integers(0, 5))):
                ending, content = data.draw(contents())
                (inside / f"{i}.{ending}").write_bytes(content)
            odd = data.draw(st.sampled_from(["none", "none", "none", "fifo", "nowhere", "loop", "same", "above"]))
            if odd == "fifo":
                os.mkfifo(inside / "pipe")
            if odd == "nowhere":
                (inside / "link").symlink_to("nowhere")
            if odd == "loop":
                (inside / "link").symlink_to("link")
            if odd == "same" and (inside / "0.png").exists():
                (inside / "again.png").symlink_to("0.png")
            if odd == "above":
                (inside / "link").symlink_to(root)
        ask = folder.Settings(name="birds", path=str(root), test_per_class=1, group=None, unreadable="refuse", seed=0)
        try:
            found = folder.load(ask, 16, data.draw(st.sampled_from([1, 3])))
        except UserError as error:
            one_line(error)
        else:
            assert np.bincount(found.train_labels, minlength=len(found.classes)).min() >= 1
            assert len(found.train_images) == len(found.train_labels) and found.train_images.dtype == np.uint8

    check()


@pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=[slow, pytest.mark.timeout(3600)])])
def test_any_model_file(tmp_path, examples):
    """Changed descriptions, changed tensors and damaged bytes: a network that predicts numbers, or one line."""
    path = tmp_path / "model.safetensors"
    save_model(path, Network(DARTS_V2, 2, 4, 3, in_channels=1, reductions=(1, 2)))
    whole = path.read_bytes()
    state, config = read_weights(path)
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=5),
        lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=3), inside, max_size=2),
        max_leaves=4,
    )
    tensors = st.sampled_from(
        [
            torch.zeros(0),
            torch.full((3,), torch.nan),
            torch.zeros(3, dtype=torch.int64),
            torch.zeros(2**16),
            torch.ones(3),
        ]
    )

    @bounded(examples)
    @given(st.data())
    def check(data):
        kind = data.draw(st.sampled_from(["description", "tensor", "flip", "cut"]))
        if kind == "description":
            changed = {**config, data.draw(st.sampled_from([*config, "branches", "feature_norm"])): data.draw(values)}
            path.write_bytes(save(state, metadata={"tailnas": json.dumps(changed)}))
        elif kind == "tensor":
            changed = {**state, data.draw(st.sampled_from([*state, "more"])): data.draw(tensors).clone()}
            path.write_bytes(save(changed, metadata={"tailnas": json.dumps(config)}))
        elif kind == "flip":
            damaged = bytearray(whole)
            damaged[data.draw(st.integers(0, 4000))] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(damaged)
        else:
            path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        try:
            network = load_model(path)
        except UserError as error:
            one_line(error)
        else:
            assert network.predict(torch.zeros(1, 1, 16, 16, dtype=torch.uint8)).shape == (1, len(network.classes))

    check()


@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=[slow, pytest.mark.timeout(3600)])])
def test_any_stored_data_set(tmp_path, examples):
    images, labels = np.zeros((6, 1, 16, 16), np.uint8), np.array([0, 1, 2] * 2)
    origin = Origin([f"{row}.png" for row in range(12)], [""] * 12)
    save_dataset(Dataset(images, labels, images, labels, ("a", "b", "c"), "x", "x", origin), tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in FILES}

    @bounded(examples)
    @given(st.data())
    def check(data):
        name = data.draw(st.sampled_from(FILES))
        damaged = bytearray(whole[name])
        damaged[data.draw(st.integers(0, min(len(damaged), 200) - 1))] ^= data.draw(st.integers(1, 255))
        (tmp_path / name).write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
        tested = [partial(load_tested, rows=rows) for rows in (None, np.arange(6))]
        for load in (load_meta, load_train, load_test, *tested, partial(read_groups, images=6)):
            try:
                load(tmp_path)
            except UserError as error:
                one_line(error)
        (tmp_path / name).write_bytes(whole[name])

    check()


@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=[slow, pytest.mark.timeout(3600)])])
def test_any_archive(tmp_path, examples):
    members = [
        "cifar-10-batches-py/batches.meta",
        "cifar-10-batches-py/data_batch_1",
        "../outside",
        "/etc/outside",
        "x",
    ]
    archive = tmp_path / "here" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()

    @bounded(examples)
    @given(st.data())
    def check(data):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode=data.draw(st.sampled_from(["w", "w:gz", "w:xz"]))) as tar:
            for name in data.draw(st.lists(st.sampled_from(members), max_size=4)):
                member = tarfile.TarInfo(name)
                member.type = data.draw(st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE]))
                member.linkname = "/etc/passwd"
                inside = data.draw(st.sampled_from([b"", b"\x80\x04K\x01.", b"cos\nsystem\n(S'id'\ntR."]))
                member.size = len(inside) if member.type == tarfile.REGTYPE else 0
                tar.addfile(member, io.BytesIO(inside))
        whole = content.getvalue()
        archive.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
        from hashlib import sha256

        given_sha = sha256(archive.read_bytes()).hexdigest()
        ask = cifar10.Settings(name="c", root=str(archive.parent), url=None, sha256=given_sha)
        with pytest.raises(UserError) as error:
            cifar10.load(ask, 32, 3)
        one_line(error.value)
        assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [archive.name]

    check()
