"""A small pipeline through the bridge leaves dvc.lock, cache and run cache as `dvc repro` leaves them."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import yaml
from dvc_objects.fs.utils import tmp_fname

from tests.unit.dvc_project import Project

DVC_YAML = """
stages:
  first:
    cmd: mkdir -p out/first && cat code/a.txt > out/first/a.txt && echo b > out/first/b.txt
    deps: [code, list.txt]
    params: [one]
    outs: [out/first]
  many:
    matrix:
      seed: ${study.seeds}
    cmd:
      - mkdir -p out
      - python -m steps.many ${item.seed} out/many-${item.seed}.txt
    deps: [out/first, code, steps]
    params: [two]
    outs: ["out/many-${item.seed}.txt"]
  number:
    cmd: echo "{}" > out/number.json
    deps: [out/first/a.txt]
    metrics:
      - out/number.json:
          cache: false
  last:
    cmd: cat out/many-*.txt > last.txt
    deps: [out/many-0.txt, out/many-1.txt, out/many-2.txt, out/number.json]
    outs: [last.txt]
"""
PARAMS = "study: {seeds: [0, 1, 2]}\none: {a: 1, b: [1, 2.5, null]}\ntwo: text\n"
MANY = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text(f'seed {sys.argv[1]}')\n"
FILES = {"dvc.yaml": DVC_YAML, "params.yaml": PARAMS, "steps/many.py": MANY, "list.txt": "list"}
FILES |= {"code/a.txt": "a", "code/b.txt": "b"}
RUN = """
import sys
from bridge.interior import Pipeline
from bridge.schedule import Schedule
from bridge.worker import Worker
pipeline = Pipeline()
worker = Worker([])
print("worker", flush=True)
progress = Schedule(pipeline, {"cores": int(sys.argv[1])}, lambda job: {"cores": 1}, worker=lambda: worker.address,
                    modules="steps.").run(pipeline.jobs())
pipeline.close()
worker.close()
print(sorted(progress.ran), progress.failed, progress.skipped)
sys.exit(bool(progress.failed))
"""


IN_WRITING = re.compile(r"\.dvc/cache/files/md5/(../)?.*\.[\w-]{22}\.tmp")


def run_ours(project: Project, cores: int = 1, status: int = 0) -> str:
    return project.run(sys.executable, "-c", RUN, str(cores), status=status)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("bridge") / "fresh").create(FILES)


@pytest.fixture(scope="module")
def by_dvc(fresh) -> Project:
    project = fresh.copy("by-dvc")
    project.run("dvc", "repro")
    return project


@pytest.fixture
def copies(fresh, by_dvc, request) -> Iterator[tuple[Project, Project]]:
    """The fresh project and that which DVC computed, each a copy."""
    yield tuple(project.copy(f"{request.node.name}-{name}") for name, project in (("ours", fresh), ("dvc", by_dvc)))


@pytest.mark.parametrize("cores", [1, 3])
def test_file_by_file_as_dvc_repro_leaves_it(copies, cores):
    ours, theirs = copies
    run_ours(ours, cores)
    assert ours.kept() == theirs.kept()
    assert any("cache/runs" in name for name in ours.kept()) and ours.is_clean()
    assert "[] {} []" in run_ours(ours, cores)


def test_a_change_and_a_change_back(copies):
    """Replaced entries, what comes from the run cache, what is unchanged."""
    before = copies[1].kept()
    for value in ("other", "text"):
        for project, act in zip(
            copies, (lambda: run_ours(copies[0], 2), lambda: copies[1].run("dvc", "repro")), strict=True
        ):
            (project.root / "params.yaml").write_text(PARAMS.replace("two: text", f"two: {value}"))
            act()
        assert copies[0].is_clean()
    assert copies[0].kept()["dvc.lock"] == copies[1].kept()["dvc.lock"] == before["dvc.lock"]
    ours, theirs = (project.kept() for project in copies)
    assert {k: v for k, v in ours.items() if "runs" in k}.keys() == {
        k: v for k, v in theirs.items() if "runs" in k
    }.keys()


def test_what_fails_is_not_recorded_and_stops_its_followers_alone(copies):
    project = copies[0]
    (project.root / "steps" / "many.py").write_text(MANY + "sys.exit(sys.argv[1] == '1')\n")
    said = run_ours(project, 2, status=1)
    assert "{'many@1': 1} ['last']" in said
    assert set(json.loads(project.run("dvc", "status", "--json"))) == {"many@1", "last"}


@pytest.mark.parametrize("seed", [pytest.param(k, marks=[] if k < 3 else [pytest.mark.slow]) for k in range(20)])
def test_killed_at_any_moment_the_same_command_ends_as_if_nothing_had_been(copies, seed):
    """Entries of dvc.lock that the killed run wrote stay where they are, and stages side by side end in any order."""
    ours, theirs = copies
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "2"],
        cwd=ours.root,
        env=ours.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout and process.stdout.readline() == b"worker\n"
    try:
        process.wait(random.Random(seed).uniform(0, 1.2))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
    run_ours(ours, 2)
    kept = {name: text for name, text in ours.kept().items() if not IN_WRITING.fullmatch(name)}
    expected = theirs.kept()
    assert yaml.safe_load(kept.pop("dvc.lock")) == yaml.safe_load(expected.pop("dvc.lock"))
    assert kept == expected and ours.is_clean()


@pytest.mark.parametrize(
    ("name", "hours", "stays"),
    [
        ("out/*", 0, False),
        ("out/many-0.txt*", 0, False),
        ("*", 0, False),
        ("out/.notes.tmp", 9, True),
        ("out/notes*", 9, True),
        ("mine/*", 9, True),
        (".dvc/cache/files/md5/*", 0.9, True),
        (".dvc/cache/files/md5/*", 1.1, False),
        (".dvc/cache/files/md5/0c/*", 1.1, False),
        (".dvc/cache/files/md5/0c/0000*", 1.1, False),
    ],
)
def test_what_dvc_leaves_when_it_is_killed_is_removed(copies, name, hours, stays):
    """In the cache only once no other repository can be writing it."""
    project = copies[1]
    left = project.root / name.replace("*", tmp_fname())
    left.parent.mkdir(exist_ok=True)
    left.write_text("test")
    os.utime(left, (time.time() - 3600 * hours,) * 2)
    run_ours(project)
    assert left.exists() == stays


@pytest.mark.parametrize(
    ("name", "text"), [("dvc.lock", ""), ("dvc.lock", "stages:\n  x: ["), (".dvc/tmp/rwlock", '{"wr')]
)
def test_files_that_a_kill_left_cut_are_put_aside_with_one_line(copies, name, text):
    _, project = copies
    before = project.kept()
    (project.root / name).write_text(text)
    said = run_ours(project)
    assert said.count("put aside as .dvc/tmp/") == 1 and "Traceback" not in said
    assert project.kept() == before and project.is_clean()


DAMAGE = {
    "cut after a line": lambda path, content: path.write_bytes(content[: content.index(b"\n") + 1]),
    "no text": lambda path, content: path.write_bytes(b"\xff" + content[1:]),
    "another number": lambda path, content: path.write_bytes(content.replace(b"md5: ", b"md5: f", 1)),
    "a folder": lambda path, content: path.mkdir(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_broken_in_the_run_cache_is_put_aside(copies, kind):
    _, project = copies
    before = project.kept()
    entries = [path for path in (project.root / ".dvc" / "cache" / "runs").rglob("*") if path.is_file()]
    for path in entries:
        content = path.read_bytes()
        path.unlink()
        DAMAGE[kind](path, content)
    (project.root / "dvc.lock").unlink()
    shutil.rmtree(project.root / "out")
    said = run_ours(project)
    assert 0 < said.count("put aside as .dvc/tmp/") <= len(entries) and "Traceback" not in said
    assert project.kept() == before and project.is_clean()


@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock", ".dvc/cache/files"])
def test_a_folder_in_the_place_of_a_file_of_dvcs_is_put_aside(copies, name):
    _, project = copies
    before = project.kept()
    path = project.root / name
    if path.is_dir():
        path = next(below for below in sorted(path.rglob("*")) if below.is_file() and not below.name.endswith(".dir"))
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "more.txt").write_text("mine")
    (project.root / "last.txt").unlink()
    shutil.rmtree(project.root / "out")
    said = run_ours(project)
    assert said.count("put aside as .dvc/tmp/") == 1 and "Traceback" not in said
    assert [*(project.root / ".dvc" / "tmp").glob("*.broken/more.txt")]
    assert project.kept() == before and project.is_clean()


def test_a_folder_that_cannot_be_written_is_one_line(copies):
    """Such as another user's, or one on a disk that is mounted read-only."""
    _, project = copies
    (project.root / ".dvc" / "tmp").rename(project.root / "tmp")
    (project.root / ".dvc" / "tmp").write_text("no folder\n")
    code = "from bridge.interior import *\ntry: Pipeline()\nexcept PipelineError as error: print(error)"
    said = project.run(sys.executable, "-c", code)
    assert ".dvc/tmp" in said and len(said.splitlines()) == 1


def test_entries_of_dead_processes_whose_numbers_live_on_are_forgotten(copies):
    """After a restart numbers begin anew: one now belongs to another command, one to a process that is too young."""
    _, project = copies
    young = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "repro"])
    try:
        old, new = ({"pid": pid, "cmd": f"/usr/bin/dvc repro{end}"} for pid, end in ((1, " --force"), (young.pid, "")))
        entries = {str(project.root / "out" / "many-1.txt"): old, str(project.root / "last.txt"): new}
        held = project.root / ".dvc" / "tmp" / "rwlock"
        held.write_text(json.dumps({"write": entries, "read": {}}))
        os.utime(held, (held.stat().st_mtime - 100,) * 2)
        (project.root / "last.txt").unlink()
        (project.root / "out" / "many-1.txt").unlink()
        run_ours(project)
        assert project.is_clean()
    finally:
        young.kill()
        young.wait()


def test_what_of_dvcs_interior_is_used_is_still_there():
    """Fails with the name that a new DVC no longer has."""
    import dvc.dependency.param
    import dvc.rwlock
    import dvc.stage.cache
    from dvc.dvcfile import Lockfile, ProjectFile
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import PipelineStage
    from dvc.stage.cache import StageCache
    from dvc_objects.fs.memory import MemoryFileSystem

    wanted = {
        dvc.dependency.param: ["load_path"],
        dvc.rwlock: ["rwlock", "_edit_rwlock"],
        Output: ["_build", "IS_DEPENDENCY", "is_metric", "is_plot", "isdir"],
        PipelineStage: ["changed", "status", "remove_outs", "save_deps", "save", "commit", "reproduce", "dvcfile"],
        StageCache: ["restore", "_load_cache", "_get_cache_path"],
        dvc.stage.cache: ["_get_cache_hash"],
        ProjectFile: ["_lockfile"],
        Lockfile: ["load"],
        Repo: ["index", "_reset", "close"],
    }
    missing = [
        f"{where.__name__}.{name}" for where, names in wanted.items() for name in names if not hasattr(where, name)
    ]
    assert missing == [] and hasattr(MemoryFileSystem().fs, "store")
