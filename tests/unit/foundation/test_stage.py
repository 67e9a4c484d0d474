"""What every stage script shares: key, lock, outputs that are whole or not there, one line for a mistake."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tailnas.fetch.settings import SOURCE
from tailnas.foundation.errors import UserError
from tailnas.foundation.stage import Stage, main
from tailnas.sources import digits, glyphs
from tailnas.split.settings import Split

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with parameters, declarations and inputs, but none of the code that the declarations list."""
    shutil.copy(REPOSITORY / "presets" / "default.yaml", tmp_path / "params.yaml")
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    for folder in ("data/raw/digits", "data/raw/glyphs"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("meta.json", "train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"):
            (tmp_path / folder / name).write_text(f"{folder} {name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(key, value):
    document = yaml.safe_load(Path("params.yaml").read_text())
    *sections, last = key.split(".")
    node = document
    for section in sections:
        node = node[section]
    assert node[last] != value
    node[last] = value
    if value is ...:
        del node[last]
    Path("params.yaml").write_text(yaml.safe_dump(document))


def stage(name, **args):
    arguments = {
        "split": {"imbalance_factor": "30", "seed": "0", "data": Path("data/raw/digits")},
        "pretrain": {"seed": "0", "data": Path("data/raw/glyphs")},
        "fetch": {"role": "target"},
    }[name]
    output = {"split": "data/splits/if30-seed0", "pretrain": "results/pretrain/seed0", "fetch": "data/raw/new"}[name]
    return Stage(name, argparse.Namespace(**{**arguments, "output": Path(output), **args}))


def key(name, **args):
    return stage(name, **args).key


def test_a_stage_reads_the_sections_that_dvc_yaml_lists_and_no_others():
    assert stage("split").section("split", Split).profile == "exp"
    assert stage("split").section("split.n_max", int | None) is None
    assert stage("fetch").section("data.image_size", int) == 16
    for role, module in (("target", digits), ("source", glyphs)):
        chosen = stage("fetch", role=role).chosen(f"data.{role}", SOURCE)
        assert chosen.module is module and isinstance(chosen.settings, module.Settings)
    for name, other in (("split", "data"), ("split", "spl"), ("split", "study"), ("fetch", "data.source")):
        with pytest.raises(LookupError, match=f"dvc.yaml does not list {other} among the params of {name}"):
            stage(name).section(other, dict)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("split.profile", "linear", 'split.profile: "linear"'),
        ("split", {"profile": "exp"}, "split.class_order: missing"),
        ("split", None, "split: null"),
        ("runtime.threads", 0, "runtime.threads: 0"),
        ("runtime", ..., "runtime: missing"),
        ("split", ..., "split: missing"),
    ],
)
def test_a_mistake_in_its_sections_is_one_line(setting, value, said):
    edit(setting, value)
    with pytest.raises(UserError) as error:
        stage("split").section("split", Split)
    assert str(error.value) == f"params.yaml: {said}; allowed: what the validate stage accepts"


def test_the_file_of_a_chosen_extension_is_a_dependency_and_its_neighbours_are_not():
    listed = [str(path) for path in stage("fetch").dependencies()]
    assert "tailnas/sources/digits.py" in listed and "tailnas/sources" not in listed
    edit("data.target", {"name": "c", "kind": "cifar10", "root": None, "url": None, "sha256": None})
    assert "tailnas/sources/cifar10.py" in [str(path) for path in stage("fetch").dependencies()]


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("split", "split.profile", "step"),
        ("split", "runtime.threads", 3),
        ("pretrain", "pretrain.training.momentum", 0.5),
        ("pretrain", "space.channels", 3),
        ("fetch", "data.target.seed", 5),
        ("fetch", "data.image_size", 20),
    ],
)
def test_the_key_follows_what_the_stage_depends_on(name, setting, value):
    before = key(name)
    assert key(name) == before
    edit(setting, value)
    assert key(name) != before


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("split", "search.training.epochs", 9),
        ("split", "runtime.progress", "none"),
        ("split", "study.seeds", [0, 1]),
        ("pretrain", "search.training.epochs", 9),
        ("fetch", "data.source.seed", 5),
    ],
)
def test_the_key_does_not_follow_anything_else(name, setting, value):
    before = key(name)
    edit(setting, value)
    assert key(name) == before


def test_the_key_follows_arguments_inputs_and_code(project):
    before = key("split")
    assert key("split", seed="1") != before
    (project / "data/raw/digits/train_labels.npy").write_text("other")
    changed = key("split")
    assert changed != before
    (project / "tailnas/split").mkdir(parents=True)
    (project / "tailnas/split/long_tail.py").write_text("1")
    assert key("split") != changed


@pytest.mark.parametrize(("name", "folder", "follows"), [("split", "digits", False), ("pretrain", "glyphs", True)])
def test_test_files_count_where_they_are_a_dependency_and_are_not_opened_elsewhere(project, name, folder, follows):
    path = project / "data" / "raw" / folder / "test_images.npy"
    before = key(name)
    path.write_text("other")
    assert (key(name) != before) == follows
    path.unlink()
    path.mkdir()  # cannot be opened as a file
    if not follows:
        assert key(name) == before


def test_the_key_is_that_of_the_start_of_the_work(project):
    before = key("split")
    with stage("split") as work, work.writing() as folder:
        (project / "data/raw/digits/meta.json").write_text("changed meanwhile")
        (folder / "a").write_text("a")
    assert Path(".tailnas/locks/data-splits-if30-seed0").read_text() == f"1 {before}"


def test_outputs_appear_whole():
    with stage("split") as work:
        with work.writing() as folder:
            (folder / "split.csv").write_text("new")
            assert not work.output.exists()
        assert [file.name for file in work.output.iterdir()] == ["split.csv"]
    assert [file.name for file in Path("data/splits").iterdir()] == ["if30-seed0"]
    assert Path("logs/split/if30-seed0/run.json").exists()


def test_an_error_leaves_the_old_output_and_nothing_else():
    with stage("split") as work, work.writing() as folder:
        (folder / "split.csv").write_text("old")
    for error in (UserError("a mistake"), OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(error)), stage("split") as work, work.writing() as folder:
            (folder / "split.csv").write_text("half")
            raise error
    assert [file.name for file in Path("data/splits").iterdir()] == ["if30-seed0"]
    assert Path("data/splits/if30-seed0/split.csv").read_text() == "old"


def test_a_new_output_replaces_the_old_one_whole():
    for name in ("a", "b"):
        with stage("split") as work, work.writing() as folder:
            (folder / name).write_text(name)
    assert [file.name for file in work.output.iterdir()] == ["b"]
    assert Path(".tailnas/locks/data-splits-if30-seed0").read_text().startswith("2 ")


def test_what_a_killed_process_left_is_removed():
    for name in (".if30-seed0.99999.tmp", ".if300-seed0.99999.tmp"):
        (Path("data/splits") / name).mkdir(parents=True)
    with stage("split"):
        pass
    assert [file.name for file in Path("data/splits").iterdir()] == [".if300-seed0.99999.tmp"]


def test_a_finished_stage_removes_its_checkpoint():
    with stage("split") as work:
        work.checkpoint.parent.mkdir(parents=True)
        work.checkpoint.write_text("state")
        other = work.checkpoint.with_name("split-30-1-0123456789abcdef.pt")
        other.write_text("of another run")
        with work.writing():
            pass
    assert list(work.checkpoint.parent.iterdir()) == [other]


@pytest.mark.parametrize("content", ["", "nonsense", "12", "x y z", "7 abc"])
def test_a_damaged_lock_file_harms_nothing(content):
    path = Path(".tailnas/locks/data-splits-if30-seed0")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with stage("split") as work, work.writing():
        pass
    assert work.output.is_dir() and path.read_text().endswith(work.key)


def test_a_missing_input_is_named():
    with pytest.raises(UserError, match=r"^data/raw/none: no such file or folder \(--data\); allowed: "):
        stage("split", data=Path("data/raw/none")).__enter__()
    assert not Path("data/splits").exists()


SCRIPT = """
import argparse, sys, time
from pathlib import Path
from tailnas.foundation.stage import Stage, main

def run():
    seed, wait = sys.argv[1:3]
    args = argparse.Namespace(
        imbalance_factor="30", seed=seed, data=Path("data/raw/digits"), output=Path("data/splits/if30-seed0"))
    with Stage("split", args) as stage:
        print("started", flush=True)
        while wait == "wait" and not Path("go").exists():
            time.sleep(0.01)
        with stage.writing() as folder:
            (folder / "by").write_text(sys.argv[3])

main(run)
"""


class Script:
    """A stage process that starts, waits for `go` where told to, and writes its name."""

    def __init__(self, name, seed="0", wait=False):
        self.log = Path(f"{name}.log")
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, seed, "wait" if wait else "run", name],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=stream,
                stderr=stream,
            )

    def until(self, text):
        deadline = time.monotonic() + 120
        while text not in self.log.read_text():
            assert time.monotonic() < deadline and self.process.poll() in (None, 0), self.log.read_text()
            time.sleep(0.01)

    def end(self):
        assert self.process.wait(120) == 0, self.log.read_text()


def written_by():
    return Path("data/splits/if30-seed0/by").read_text()


def test_a_second_process_waits_and_has_nothing_left_to_do():
    first = Script("first", wait=True)
    first.until("started")
    second = Script("second")
    second.until("waiting for another process")
    assert "started" not in second.log.read_text()
    Path("go").touch()
    first.end()
    second.end()
    assert "that process has finished the same work" in second.log.read_text()
    assert "started" not in second.log.read_text()
    assert written_by() == "first"


@pytest.mark.parametrize("change", ["arguments", "parameters", "inputs", "output removed"])
def test_a_second_process_with_other_work_does_it(change):
    first = Script("first", wait=True)
    first.until("started")
    if change == "parameters":
        edit("split.profile", "step")
    if change == "inputs":
        Path("data/raw/digits/meta.json").write_text("other")
    second = Script("second", seed="1" if change == "arguments" else "0")
    second.until("waiting for another process")
    if change == "output removed":
        second.process.send_signal(signal.SIGSTOP)
    Path("go").touch()
    first.end()
    if change == "output removed":
        shutil.rmtree("data/splits/if30-seed0")
        second.process.send_signal(signal.SIGCONT)
    second.end()
    assert written_by() == "second"


def test_a_second_process_does_the_work_of_one_that_was_killed():
    first = Script("first", wait=True)
    first.until("started")
    second = Script("second")
    second.until("waiting for another process")
    first.process.kill()
    second.end()
    assert written_by() == "second"


def raising(error):
    def run():
        if callable(error):
            error(2**50)  # numbers
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("adapt.epochs: 0; allowed: 1"), "adapt.epochs: 0; allowed: 1"),
        (OSError(28, "No space left on device", "results/x"), "results/x: No space left on device; allowed: "),
        (OSError(28, "No space left on device"), "HERE: No space left on device; allowed: "),
        (MemoryError(), "memory: not enough; allowed: "),
        (np.empty, "memory: not enough; allowed: "),
        (torch.empty, "memory: not enough; allowed: "),
        (RuntimeError("std::bad_alloc"), "memory: not enough; allowed: "),
        (PermissionError(13, "Permission denied", "results"), "results: Permission denied; allowed: "),
    ],
)
def test_a_mistake_is_one_line_and_status_1(error, line):
    with pytest.raises(SystemExit) as ended:
        main(raising(error))
    assert str(ended.value).startswith(
        line.replace("HERE", str(Path.cwd()))
    )  # sys.exit prints text to stderr and exits with status 1
    assert "\n" not in str(ended.value)


def test_an_interrupt_by_keyboard_has_its_status():
    with pytest.raises(SystemExit) as ended:
        main(raising(KeyboardInterrupt()))
    assert ended.value.code == 130


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        main(raising(ZeroDivisionError()))


@pytest.mark.parametrize("closed", [False, True], ids=["a locale of ASCII", "a closed pipe"])
def test_output_that_cannot_be_shown_or_goes_nowhere_is_no_traceback(closed):
    code = "from tailnas.foundation.stage import main\nmain(lambda: print('\\udcff \u00e9\\n' * 50_000))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **streams) as done:
        if closed:
            done.stdout.close()
        else:
            assert done.stdout.read().startswith(b"\\udcff \\xe9\n")
        assert done.stderr.read() == b"" and done.wait() == (141 if closed else 0)
