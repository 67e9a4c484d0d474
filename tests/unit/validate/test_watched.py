"""What DVC cannot see and outputs depend on: the user's images and the installed packages."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from tailnas.foundation.extensions import Chosen
from tailnas.sources import digits, folder
from tailnas.validate import watched
from tailnas.validate.watched import PACKAGES, images, packages


@pytest.fixture
def look(tmp_path):
    """The digest of a folder of six files, whose times lie far back."""
    for name in ("crow", "duck"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(3):
            file = tmp_path / "mine" / name / f"{i}.png"
            file.write_text(f"{name} {i}")
            os.utime(file, (1, 1))
    settings = folder.Settings(name="birds", path=str(tmp_path / "mine"), test_per_class=1, seed=0)
    return lambda: images(Chosen("folder", folder, settings), tmp_path / "memory" / "target")


def put_back(file, text):
    file.write_text(text)
    os.utime(file, (1, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda mine: put_back(mine / "crow" / "0.png", "crow 9"),  # the same size and time
        lambda mine: (mine / "crow" / "0.png").rename(mine / "duck" / "9.png"),
        lambda mine: (mine / "crow" / "0.png").rename(mine / "crow" / "9.png"),
        lambda mine: (mine / "crow" / "0.png").unlink(),
        lambda mine: (mine / "crow" / "9.png").write_text("crow 0"),
    ],
)
def test_every_change_of_a_file_is_seen_and_undone_is_undone(tmp_path, look, monkeypatch, change):
    monkeypatch.setattr(watched, "SETTLED", -1)  # a time of change cannot be set back
    before = look()
    assert look() == before
    change(tmp_path / "mine")
    assert look() != before
    for file in (tmp_path / "mine").rglob("*.png"):
        file.unlink()
    for name in ("crow", "duck"):
        for i in range(3):
            (tmp_path / "mine" / name / f"{i}.png").write_text(f"{name} {i}")
    assert look() == before


def test_other_times_of_equal_files_are_no_change(tmp_path, look):
    before = look()
    for file in (tmp_path / "mine").rglob("*.png"):
        os.utime(file)
    assert look() == before


def test_what_is_as_it_was_is_not_read_again(tmp_path, look, monkeypatch):
    monkeypatch.setattr(watched, "SETTLED", -1)
    before = look()
    for file in (tmp_path / "mine").rglob("*.png"):
        file.chmod(0)  # changes the time of change: root reads it all the same
    assert look() == before or os.geteuid()
    read = []
    monkeypatch.setattr(watched.hashlib, "file_digest", lambda *_: read.append(1))
    look()
    assert read == []


def test_files_that_changed_a_moment_ago_are_read_again(tmp_path, look):
    look()
    assert not (tmp_path / "memory" / "target").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"x": [1]}'])
def test_a_damaged_memory_is_forgotten(tmp_path, look, monkeypatch, content):
    monkeypatch.setattr(watched, "SETTLED", -1)
    before = look()
    (tmp_path / "memory" / "target").write_bytes(content)
    assert look() == before


def test_links_to_nothing_and_what_is_no_file_do_not_stop_it(tmp_path, look):
    before = look()
    os.mkfifo(tmp_path / "mine" / "crow" / "pipe")
    (tmp_path / "mine" / "crow" / "link").symlink_to("nowhere")
    assert look() != before


def test_data_without_images_of_the_users_own_is_always_the_same(tmp_path):
    settings = digits.Settings(name="digits", test_per_class=5, seed=0)
    assert images(Chosen("digits", digits, settings), tmp_path / "a") == images(
        Chosen("digits", digits, settings.model_copy(update={"seed": 1})), tmp_path / "b"
    )


def test_every_package_that_computes_is_named():
    document = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    required = {re.split(r"[><=]", name)[0] for name in document["project"]["dependencies"]}
    assert required - set(PACKAGES) == {"ruamel.yaml", "pydantic", "tensorboard", "tqdm"}
    assert [line.split()[0] for line in packages().splitlines()] == ["python", *PACKAGES]
