"""make prune, make verify, stages and links of the user's own, where stages are stand-ins of a few lines."""

from __future__ import annotations

import argparse
import fcntl
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tailnas.foundation.stage import Stage

from .project import Project

WRITTEN = {
    "fetch": [
        "meta.json",
        "digests.npy",
        "groups.npy",
        "train_images.npy",
        "train_labels.npy",
        "test_images.npy",
        "test_labels.npy",
    ],
    "split": ["split.csv", "counts.csv"],
    "pretrain": ["supernet.safetensors", "history.csv"],
    "search": ["found/alphas.npz", "history.csv"],
    "derive": ["genotype.json"],
    "retrain": ["model.safetensors"],
    "adapt": ["model.safetensors"],
    "calibrate": ["model.safetensors"],
    "evaluate": ["metrics.json"],
    "report": ["metrics.json"],
}
STAND_IN = """
import sys
from pathlib import Path

output = Path(sys.argv[sys.argv.index("--output") + 1])
output.mkdir(parents=True)
for name in {names}:
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text(f"{{sys.argv[1:]}} {{name}}")
"""


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Project:
    """Every stage writes its files, from its arguments, in no time; all of the smoke study is there."""
    project = Project.create(tmp_path_factory.mktemp("upkeep") / "project")
    for stage, names in WRITTEN.items():
        (project.root / "stages" / f"{stage}.py").write_text(STAND_IN.format(names=names))
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", "stand-ins")
    project.dvc("repro")
    return project


@pytest.fixture
def project(stand_ins, tmp_path) -> Project:
    return stand_ins.copy(tmp_path / "project")


def tree(project: Project) -> set[str]:
    """Every file and empty folder but those of engines and logs."""
    ignored = {".git", ".dvc", ".snakemake", "logs", "__pycache__", "locks", "snakemake.lock"}
    return {
        str(path.relative_to(project.root))
        for path in project.root.rglob("*")
        if (path.is_file() or not any(path.iterdir())) and not ignored & set(path.relative_to(project.root).parts)
    }


def prune(project: Project) -> set[str]:
    """What `python -m workflow.prune` says that it removes."""
    said = project.run(sys.executable, "-m", "workflow.prune").stdout
    removed = set(re.findall(r"^removing (.+)$", said, flags=re.MULTILINE))
    assert f"{len(removed)} removed" in said
    return removed


def test_prune_leaves_the_present_study_alone(project):
    before = tree(project)
    assert prune(project) == set()
    assert tree(project) == before
    assert project.is_clean()


def test_prune_removes_what_the_study_no_longer_lists(project):
    project.edit({"study.seeds": [0, 1], "data.source.name": "letters"})
    project.dvc("repro")
    older = ["data/splits/if20.5-seed0/split.csv", "results/runs/bbn_hls-20.5-0/search/history.csv"]
    for name in older:
        (project.root / name).parent.mkdir(parents=True)
        (project.root / name).write_text("of another factor")
    more = tree(project)
    project.edit({"study.methods": ["random"], "study.seeds": [0], "data.source.name": "glyphs"})
    project.dvc("repro")
    expected = {"data/raw/letters", "results/pretrain/seed1", "data/splits/if30-seed1", "data/splits/if20.5-seed0"}
    searches = {f"results/runs/{run}" for run in ("bbn_hls-30-0", "bbn_hls-30-1", "random-30-1")}
    expected |= searches | {f"{search}-0" for search in searches}
    expected |= {"results/runs/bbn_hls-20.5-0"}
    assert prune(project) == expected
    removed = more - tree(project)
    assert {next(gone for gone in expected if path.startswith(f"{gone}/")) for path in removed} == expected
    assert prune(project) == set()
    assert "Running stage 'report'" in project.dvc("repro"), "its folder of runs has changed"
    assert project.is_clean()


def test_prune_never_touches_what_no_stage_has_named(project):
    own = [
        "data/raw/holiday/cats/1.png",
        "data/raw/list.txt",
        "data/splits/notes.md",
        "results/runs/best of all/notes.md",
        "results/runs/readme.md",
        "results/notes.md",
        "results/pretrain/imagenet.pt",
        ".tailnas/mine.txt",
    ]
    for name in own:
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = tree(project)
    assert prune(project) == set()
    assert tree(project) == before


def test_prune_never_touches_the_images_that_the_study_reads(project):
    """Not even where they lie in a folder that an earlier study fetched."""
    document = (project.root / "params.yaml").read_text()
    own = "test_per_class: 2, group: null, unreadable: refuse, seed: 0"
    folder = f"{{name: own, kind: folder, path: data/raw/old/images, {own}}}"
    changed = re.sub(r"^  source:.*\n(    .*\n)*", f"  source: {folder}\n", document, flags=re.MULTILINE)
    changed = re.sub(r"^  watch:.*\n", "  watch: {source: data/raw/old/images}\n", changed, flags=re.MULTILINE)
    (project.root / "params.yaml").write_text(changed)
    for name in ("data/raw/old/meta.json", "data/raw/old/images/a/1.png", "data/raw/other/meta.json"):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text("{}")
    assert prune(project) == {"data/raw/glyphs", "data/raw/other"}


def retrain(project: Project, monkeypatch) -> Stage:
    """The stage retrain of a present run, as its script sees itself."""
    monkeypatch.chdir(project.root)
    search = "results/runs/random-30-0"
    return Stage(
        "retrain",
        argparse.Namespace(
            seed="0",
            retrain_seed="0",
            data=Path("data/raw/digits"),
            split=Path("data/splits/if30-seed0"),
            genotype=Path(f"{search}/derive"),
            output=Path(f"{search}-0/retrain"),
        ),
    )


def test_prune_keeps_the_checkpoint_of_interrupted_work_and_removes_all_others(project, monkeypatch):
    stage = retrain(project, monkeypatch)
    folder = stage.checkpoint.parent
    folder.mkdir(parents=True)
    live = [stage.checkpoint, stage.checkpoint.with_name(f"{stage.checkpoint.stem}-single.pt")]
    dead = [
        folder / f"retrain-random-30-0-0-{'0' * 16}.pt",  # other parameters, inputs or code
        folder / f"retrain-random-30-7-0-{'0' * 16}.pt",  # no run of the study
        folder / f"adapt-random-30-0-0-{stage.key[:16]}.pt",  # another stage
        folder / ".search-random-30-7-0.pt.99.tmp",  # half written by a killed process
    ]
    for path in [*live, *dead]:
        path.write_text("state")
    assert prune(project) == {str(path) for path in dead}
    assert all(path.exists() for path in live)

    stage.lock_file.parent.mkdir(parents=True, exist_ok=True)
    stage.lock_file.write_text(f"3 {stage.key}")
    assert prune(project) == {str(path) for path in live}, "the work is finished"


def test_prune_keeps_every_checkpoint_of_a_stage_that_is_at_work_or_misses_an_input(project, monkeypatch):
    stage = retrain(project, monkeypatch)
    stage.checkpoint.parent.mkdir(parents=True)
    other = stage.checkpoint.with_name(f"retrain-random-30-0-0-{'0' * 16}.pt")
    other.write_text("state")
    stage.lock_file.parent.mkdir(parents=True, exist_ok=True)
    with stage.lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prune(project) == set()
    genotype = project.root / "results/runs/random-30-0/derive/genotype.json"
    shutil.move(genotype, project.root / "elsewhere")
    assert prune(project) == set()
    shutil.move(project.root / "elsewhere", genotype)
    assert prune(project) == {str(other)}


def test_prune_removes_nothing_where_the_parameters_are_wrong(project):
    project.edit({"study.seeds": []})
    before = tree(project)
    done = project.run(sys.executable, "-m", "workflow.prune", status=1)
    assert done.stdout.startswith("params.yaml: study.seeds: []; allowed: ") and len(done.stdout.splitlines()) == 1
    assert tree(project) == before


def verify(project: Project, status: int) -> str:
    return project.run(sys.executable, "-m", "workflow.verify", status=status).stdout


def test_verify_finds_equal_what_is_equal(project):
    written = sum(path.startswith(("data/raw", "data/splits", "results/")) for path in tree(project))
    old = project.root / "results" / "runs" / "old-30-0"  # of a method that is gone: not compared
    old.mkdir()
    (old / "notes.txt").write_text("old")
    before = tree(project)
    assert verify(project, 0).splitlines()[-1] == f"{written} output files computed again, 0 differ"
    assert tree(project) == before
    assert not list(Path(tempfile.gettempdir()).glob("tailnas-verify-*/copy"))


def test_verify_names_every_file_that_differs(project):
    script = project.root / "stages" / "derive.py"
    script.write_text(script.read_text().replace("{name}", "{name} {Path.cwd()}"))
    (project.root / "results" / "report" / "metrics.json").unlink()
    (project.root / "results" / "report" / "more.json").write_text("{}")
    lines = verify(project, 1).splitlines()
    assert lines[-5:-1] == [
        "results/report/metrics.json: is missing here",
        *(f"results/runs/{run}-30-0/derive/genotype.json: differs" for run in ("bbn_hls", "random")),
        "results/report/more.json: is missing in the second run",
    ]
    assert lines[-1].endswith("4 differ")


def test_verify_without_results_is_one_line(project):
    shutil.rmtree(project.root / "results")
    assert verify(project, 1) == (
        "results: nothing to compare; allowed: results of this study, as `make repro` computes them\n"
    )


ENGINES = {
    "dvc": ["dvc", "repro"],
    "snakemake": ["snakemake", "--cores", "2"],
    "study": [sys.executable, "-m", "workflow.study"],
}
OWN_STAGES = """
  lines:
    cmd:
      - mkdir -p own
      - wc -l < results/report/metrics.json > own/lines.txt
    deps: [results/report/metrics.json]
    outs: [own/lines.txt]
  twice:
    cmd: python twice.py own/lines.txt own/twice
    deps: [twice.py, own/lines.txt]
    outs: [own/twice]
"""
TWICE = """
import sys
from pathlib import Path

Path(sys.argv[2]).mkdir()
Path(sys.argv[2], "a.txt").write_text({times} * Path(sys.argv[1]).read_text())
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_stages_of_the_users_own(project, engine):
    pipeline = project.root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("\nstages:\n", f"\nstages:{OWN_STAGES}"))
    (project.root / "twice.py").write_text(TWICE.format(times=2))
    before = project.outputs()
    project.run(*ENGINES[engine])
    lines = (project.root / "own" / "lines.txt").read_text()
    assert (project.root / "own" / "twice" / "a.txt").read_text() == 2 * lines
    assert project.outputs() == before and project.is_clean()
    assert prune(project) == set() and project.is_clean()

    written = (project.root / "own" / "lines.txt").stat().st_mtime_ns
    (project.root / "twice.py").write_text(TWICE.format(times=3))
    project.run(*ENGINES[engine])
    assert (project.root / "own" / "twice" / "a.txt").read_text() == 3 * lines
    assert (project.root / "own" / "lines.txt").stat().st_mtime_ns == written and project.is_clean()


def below(folder: Path) -> dict[Path, bytes]:
    """All files but those of the check itself, which DVC removes before it runs."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"params.ok", "watched"} & set(path.parts)
    }


@pytest.mark.parametrize(("name", "engine"), [("data", "dvc"), ("data/raw", "snakemake"), ("results", "study")])
def test_a_link_to_another_disk_is_refused_by_its_name(project, tmp_path, name, engine):
    (project.root / name).rename(tmp_path / "disk")
    (project.root / name).symlink_to(tmp_path / "disk")
    project.edit({"study.seeds": [0, 1]})
    before = below(tmp_path / "disk")
    done = project.run(*ENGINES[engine], status=None)
    assert done.returncode and "Traceback" not in done.stdout
    (said,) = [line for line in done.stdout.splitlines() if "a link to" in line]
    assert said.endswith(f"{tmp_path / 'disk'}, outside of the repository; allowed: a folder (for a larger disk: the "
        "whole checkout there, or a bind mount; `dvc cache dir` moves the cache)")  # fmt: skip
    assert f"{name}: a link" in said
    assert below(tmp_path / "disk") == before


@pytest.mark.parametrize("engine", ["dvc", "snakemake"])
def test_the_whole_checkout_may_be_a_link(project, tmp_path, engine):
    project.root.rename(tmp_path / "disk")
    project.root.symlink_to(tmp_path / "disk")
    before = project.outputs()
    project.edit({"study.seeds": [0, 1]})
    project.run(*ENGINES[engine])
    assert project.is_clean() and len(project.outputs()) > len(before)
