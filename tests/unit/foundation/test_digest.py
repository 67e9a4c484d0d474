"""The digest of a user's folder: every change of a file is seen, and undone is undone."""

import os
import sys

import pytest

from stages import watch
from tailnas.foundation.digest import folder_digest
from tailnas.foundation.errors import UserError


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    fill(folder)
    return folder


def fill(folder):
    for name in ("crow", "duck"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            (folder / name / f"{i}.png").write_text(f"{name} {i}")


def put_back(file, text):
    """Another content of the same size and time."""
    status = file.stat()
    file.write_text(text)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda mine: put_back(mine / "crow" / "0.png", "crow 9"),
        lambda mine: (mine / "crow" / "0.png").rename(mine / "duck" / "9.png"),
        lambda mine: (mine / "crow" / "0.png").rename(mine / "crow" / "9.png"),
        lambda mine: (mine / "crow" / "0.png").unlink(),
        lambda mine: (mine / "crow" / "9.png").write_text("crow 0"),
        lambda mine: (mine / "crow" / "9.png").symlink_to("nothing"),
    ],
)
def test_every_change_of_a_file_is_seen_and_undone_is_undone(mine, change):
    before = folder_digest(mine)
    assert folder_digest(mine) == before
    change(mine)
    assert folder_digest(mine) != before
    for file in mine.rglob("*.png"):
        file.unlink()
    fill(mine)
    assert folder_digest(mine) == before


def test_links_are_followed_and_loops_end(mine, tmp_path):
    before = folder_digest(mine)
    (mine / "crow").rename(tmp_path / "elsewhere")
    (mine / "crow").symlink_to(tmp_path / "elsewhere")
    assert folder_digest(mine) == before
    (mine / "duck" / "back").symlink_to(mine)
    assert folder_digest(mine) == before
    (tmp_path / "elsewhere" / "0.png").write_text("another")
    assert folder_digest(mine) != before


def test_a_file_by_itself(mine):
    assert folder_digest(mine / "crow" / "0.png") != folder_digest(mine / "crow" / "1.png")


@pytest.mark.parametrize(("folder", "refused"), [("mine", False), ("data/raw/digits", True), ("link", True)])
def test_the_stage_refuses_a_folder_that_a_stage_overwrites(mine, monkeypatch, folder, refused):
    root = mine.parent
    monkeypatch.chdir(root)
    (root / "data/raw/digits/a").mkdir(parents=True)
    (root / "link").symlink_to(root / "data/raw")
    (root / "params.yaml").write_text(f"data: {{watch: {{target: {folder}}}, target: {{name: digits}}}}")
    (root / "dvc.yaml").write_text("stages: {fetch: {cmd: x, outs: ['data/raw/${data.target.name}']}}")
    monkeypatch.setattr(sys, "argv", ["watch", "--role", "target", "--output", "note"])
    if refused:
        with pytest.raises(UserError, match=r"^params\.yaml: data\.watch\.target: .* overwrites; allowed: "):
            watch.run()
        assert not (root / "note").exists()
    else:
        watch.run()
        assert (root / "note").read_text() == f"{folder_digest(mine)}\n"
