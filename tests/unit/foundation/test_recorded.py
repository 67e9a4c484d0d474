"""An input that lost a bit without a change of size or time is not used."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tailnas.foundation.errors import UserError
from tailnas.foundation.recorded import recorded, require_recorded

REPOSITORY = Path(__file__).parents[3]


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(params=[".dvc/cache", "elsewhere"])
def project(request, tmp_path, monkeypatch):
    """A folder output, a file output, and what DVC keeps of them."""
    monkeypatch.chdir(tmp_path)
    cache = Path(request.param)
    contents = {"out/a.bin": b"first", "out/deep/b.bin": b"second", "single.json": b"{}"}
    for name, content in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    entries = [{"md5": md5(contents[f"out/{name}"]), "relpath": name} for name in ("a.bin", "deep/b.bin")]
    listing = json.dumps(entries).encode()
    digest = f"{md5(listing)}.dir"
    kept = cache / "files" / "md5" / digest[:2] / digest[2:]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(listing)
    outs = [("out", digest), ("single.json", md5(b"{}")), ("gone", md5(b"") + ".dir")]
    entries = [{"path": path, "hash": "md5", "md5": one, "size": 1} for path, one in outs]
    dep = {"path": "single.json", "hash": "md5", "md5": md5(b"other"), "size": 1}
    YAML().dump({"schema": "2.0", "stages": {"a": {"cmd": "x", "deps": [dep], "outs": entries}}}, Path("dvc.lock"))
    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config").write_text("[core]\n    analytics = false\n[cache]\n    type = copy\n")
    if request.param == "elsewhere":
        Path(".dvc/config.local").write_text("[cache]\n    dir = ../elsewhere\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "inputs", "found"),
    [
        ("out/a.bin", ["out"], True),
        ("out/a.bin", ["out/a.bin"], True),
        ("out/a.bin", ["."], True),
        ("out/deep/b.bin", ["out/deep"], True),
        ("out/deep/b.bin", ["out/a.bin", "single.json"], False),
        ("single.json", ["single.json"], True),
        ("single.json", ["out"], False),
    ],
)
def test_every_flipped_bit_of_what_is_read_is_found(project, file, inputs, found):
    paths = [Path(name) for name in inputs]
    require_recorded(paths)
    sound = Path(file).read_bytes()
    for position in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[position // 8] ^= 1 << position % 8
        Path(file).write_bytes(damaged)
        if found:
            with pytest.raises(UserError, match=rf"^{file}: is not what dvc\.lock records .*; allowed: "):
                require_recorded(paths)
        else:
            require_recorded(paths)


@pytest.mark.parametrize("missing", ["dvc.lock", "cache", ".dvc", "out/a.bin"])
def test_what_nobody_recorded_is_not_held_against_anything(project, missing):
    Path("out/deep/b.bin").write_bytes(b"third")
    path = Path(".dvc/cache" if missing == "cache" else missing)
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if missing == "cache":
        shutil.rmtree("elsewhere", ignore_errors=True)
    if missing == "out/a.bin":
        Path("out/deep/b.bin").write_bytes(b"second")
    if (missing, Path("elsewhere").exists()) != (".dvc", False):
        require_recorded([Path("out/a.bin")])


def test_the_record_is_read_as_yaml_reads_it(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    stages = YAML(typ="safe").load(Path("dvc.lock").read_text())["stages"].values()
    outs = {Path(out["path"]): out["md5"] for stage in stages for out in stage["outs"]}
    assert recorded() == outs and len(outs) > 10
