"""One truth, two engines: what reruns what, and that both compute the same bytes."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import yaml

from .project import REPOSITORY

ENGINES = ("dvc", "snakemake")
SEARCHES = ("bbn_hls-10-0", "random-10-0")
OF_SEARCHES = ("search", "derive")


def of_runs(*stages):
    """Log folders of stages that there are once per run."""
    return {f"{stage}/{search}-0" for stage in stages for search in SEARCHES}


def cells(*stages):
    """DVC's addresses of stages that there are once per search, or once per run."""
    return {f"{stage}@{search}{'' if stage in OF_SEARCHES else '-0'}" for stage in stages for search in SEARCHES}


def test_both_engines_compute_the_same_bytes(study):
    """Also: the same seed gives the same results twice, and one run's results are nobody's leftovers."""
    outputs = study.dvc.outputs()
    assert outputs == study.snakemake.outputs()
    assert len(outputs) > 40
    locks = [yaml.safe_load((project.root / "dvc.lock").read_text()) for project in (study.dvc, study.snakemake)]
    assert locks[0] == locks[1]
    for project in (study.dvc, study.snakemake):
        assert project.leftovers() == []
        assert not list((project.root / ".tailnas" / "checkpoints").glob("*")), "finished checkpoints are removed"


@pytest.mark.parametrize("first", ENGINES)
def test_nothing_is_left_to_do_for_either_engine(study, first, record_property):
    project = getattr(study, first)
    started = time.monotonic()
    assert "Data and pipelines are up to date" in project.dvc("repro")
    seconds = time.monotonic() - started
    record_property("seconds of a repro that does nothing", seconds)
    assert seconds < 30  # 1.7 s on a free machine
    assert "Nothing to be done" in project.snakemake()
    assert project.is_clean()


def test_editing_one_parameter_redoes_what_depends_on_it_and_undoing_it_nothing(computed_by):
    expected = of_runs("adapt", "calibrate", "evaluate") | {"report/results"}

    def edit_and_undo(engine):
        project = computed_by(engine)
        before = project.outputs()
        project.edit({"adapt.training.epochs": 2})
        assert project.ran(lambda: project.engine(engine)) == expected, engine
        assert project.is_clean() and project.planned() == set(), engine
        edited = project.outputs()
        changed = {path for path, digest in edited.items() if before[path] != digest}
        assert {path.split("/")[3] for path in changed if path.startswith("results/runs")} == {
            "adapt",
            "calibrate",
            "evaluate",
        }
        project.edit({"adapt.training.epochs": 5})
        assert project.ran(lambda: project.engine(engine)) == set(), engine
        assert project.outputs() == before, engine
        assert project.is_clean(), engine
        return edited

    with ThreadPoolExecutor() as pool:
        by_dvc, by_snakemake = pool.map(edit_and_undo, ENGINES)
    assert by_dvc == by_snakemake


ONCE = {"fetch@source", "fetch@target", "split@10-0", "pretrain@0", "report"}
AFTER_BBN_HLS = {name for name in cells("derive", "retrain", "adapt", "calibrate", "evaluate") if "bbn_hls" in name}
AFTER_SEARCH = cells("derive", "retrain", "adapt", "calibrate", "evaluate") | {"report"}
EDITS = {
    "data.image_size": (20, {"fetch@source", "fetch@target"}, ONCE | cells("search") | AFTER_SEARCH),
    "data.source.seed": (1, {"fetch@source"}, ONCE - {"fetch@target"} | cells("search") | AFTER_SEARCH),
    "data.target.seed": (1, {"fetch@target"}, ONCE - {"fetch@source", "pretrain@0"} | cells("search") | AFTER_SEARCH),
    "split.class_order": ("given", {"split@10-0"}, {"split@10-0"} | cells("search") | AFTER_SEARCH),
    "space.channels": (3, {"pretrain@0"} | cells("search"), {"pretrain@0"} | cells("search") | AFTER_SEARCH),
    "pretrain.training.momentum": (0.8, {"pretrain@0"}, {"pretrain@0"} | cells("search") | AFTER_SEARCH),
    "search.training.momentum": (0.8, cells("search"), cells("search") | AFTER_SEARCH),
    "search.bbn_hls.heads": ("constant", {"search@bbn_hls-10-0"}, {"search@bbn_hls-10-0"} | AFTER_BBN_HLS | {"report"}),
    "derive.epoch": (1, cells("derive"), AFTER_SEARCH),
    "retrain.training.flip": (True, cells("retrain", "adapt", "calibrate"), AFTER_SEARCH - cells("derive")),
    "adapt.training.momentum": (
        0.8,
        cells("adapt", "calibrate"),
        cells("adapt", "calibrate", "evaluate") | {"report"},
    ),
    "calibrate.miss": (0.2, cells("calibrate"), cells("calibrate", "evaluate") | {"report"}),
    "evaluate.calibration_bins": (10, cells("evaluate"), cells("evaluate") | {"report"}),
}
"""For each key: a new value, the stages that read it, and those that depend on it."""
OF_NO_EFFECT = {
    "search.imb_nas.statistics_batches": 3,  # of a method that is not in the study
    "export.input": "float32",
    "runtime.progress": "none",
    "runtime.threads": 2,
}
PLANNED = ("data.target.seed", "search.bbn_hls.heads", "retrain.training.flip")


def test_every_section_is_tried():
    sections = set(yaml.safe_load((REPOSITORY / "params.yaml").read_text()))
    assert {key.split(".")[0] for key in EDITS | OF_NO_EFFECT} == sections - {"study"}


def test_every_parameter_reaches_exactly_the_stages_that_depend_on_it(study, tmp_path):
    """What DVC finds changed and what Snakemake plans, for one key of each section; and nothing once it is undone.

    (Snakemake is asked for PLANNED and once all is undone alone, to be quick: it takes from DVC what is changed.)
    """
    cases = {key: ({key: value}, *stages) for key, (value, *stages) in EDITS.items()}
    cases["of no effect"] = (OF_NO_EFFECT, set(), set())

    def try_edits(of):
        project = study.dvc.copy(tmp_path / of)
        before = (project.root / "params.yaml").read_bytes()
        for key in list(cases)[of == "second" :: 2]:
            changes, readers, dependents = cases[key]
            project.edit(changes)
            assert set(json.loads(project.dvc("status", "--json"))) == readers | {"validate"}, key
            if key in (*PLANNED, "of no effect"):
                assert project.planned() == dependents, key
            (project.root / "params.yaml").write_bytes(before)
        assert project.planned() == set()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(try_edits, ("first", "second")))


def test_editing_runtime_reruns_only_validate(computed):
    computed.edit({"runtime.threads": 2, "runtime.progress": "none"})
    said = []
    assert computed.ran(lambda: said.append(computed.dvc("repro"))) == set()
    assert "Running stage 'validate'" in said[0] and said[0].count("Running stage") == 1
    assert "Nothing to be done" in computed.snakemake()


@pytest.mark.parametrize(
    ("words", "device", "line"),
    [
        (["-n"], "cuda:1", "params.yaml: runtime.device: cuda:1; allowed: auto, cuda, cpu under Snakemake"),
        (["--touch"], "cpu", "--touch: without effect, since DVC goes by content; allowed: dvc commit"),
        (["--delete-all-output"], "cpu", "--delete-all-output: no terminal to ask on; allowed: -n"),
    ],
    ids=["card", "touch", "delete"],
)
def test_what_snakemake_is_not_asked_for_is_one_line(computed, words, device, line):
    computed.edit({"runtime.device": device})
    before = computed.outputs()
    said = computed.snakemake(*words, status=1)
    assert [text for text in said.splitlines() if text.startswith(line)] and "Traceback" not in said
    assert computed.outputs() == before


def test_editing_the_reports_code_retrains_nothing(computed):
    with (computed.root / "tailnas" / "report" / "page.py").open("a") as stream:
        stream.write("\n# another comment\n")
    assert computed.planned() == {"report"}
    assert computed.ran(lambda: computed.engine("dvc")) == {"report/results"}
    assert computed.is_clean() and computed.planned() == set()


def test_a_seed_more_and_a_seed_less(study, tmp_path):
    """Snakemake computes the new seed alone; without it, the report forgets it. (One method, to be quick.)"""
    project = study.snakemake.copy(tmp_path / "project")
    before = project.outputs()
    project.edit({"study.methods": ["random"], "study.seeds": [0, 1]})
    stages = ("search", "derive", "retrain", "adapt", "calibrate", "evaluate")
    expected = {"split/if10-seed1", "pretrain/seed1", "report/results"}
    expected |= {f"{stage}/random-10-1{'' if stage in OF_SEARCHES else '-0'}" for stage in stages}
    assert project.ran(project.snakemake) == expected
    assert project.is_clean() and project.planned() == set()
    after = project.outputs()
    assert all(after[path] == digest for path, digest in before.items() if not path.startswith("results/report/"))
    assert reported(project) == {("random", 0), ("random", 1)}

    twins = {path: path.replace("seed0", "seed1") for path in before if "seed0" in path and "bbn_hls" not in path}
    same = {path for path, twin in twins.items() if after[path] == after[twin]}
    assert {path.rsplit("/", 1)[1] for path in same} <= {"cost.json"}, "another seed gives other bytes"

    project.edit({"study.seeds": [0]})
    assert project.ran(lambda: project.dvc("repro")) == {"report/results"}
    assert reported(project) == {("random", 0)}
    assert "seed1" not in (project.root / "results" / "report" / "index.html").read_text()

    project.edit({"study.retrain_seeds": [0, 5]})
    again = {f"{stage}/random-10-0-5" for stage in ("retrain", "adapt", "calibrate", "evaluate")} | {"report/results"}
    assert project.ran(project.snakemake) == again
    outputs = project.outputs()
    run = "results/runs/random-10-0"
    assert outputs[f"{run}-0/retrain/model.safetensors"] != outputs[f"{run}-5/retrain/model.safetensors"]
    assert project.is_clean()


def reported(project):
    summary = pd.read_csv(project.root / "results" / "report" / "summary.csv")
    return set(zip(summary["method"], summary["seed"], strict=True))


def test_dvcs_other_commands_work(computed):
    assert "bbn_hls-if10" in computed.dvc("metrics", "show")
    graph = computed.dvc("dag")
    assert all(name in graph for name in ("validate", "fetch@source", "search@bbn_hls-10-0", "report"))
    computed.dvc("plots", "show", "-o", "plots")
    page = (computed.root / "plots" / "index.html").read_text()
    assert "confusion" in page and "search_balanced_accuracy" in page
    computed.run("git", "add", "dvc.lock")
    computed.run("git", "commit", "-q", "-m", "computed")
    said = []
    expected = of_runs("evaluate") | {"report/results"}
    ran = computed.ran(lambda: said.append(computed.dvc("exp", "run", "-S", "evaluate.calibration_bins=7")))
    assert expected >= ran >= of_runs("evaluate")
    assert "calibration_bins: 7" in (computed.root / "params.yaml").read_text()
    assert "evaluate.calibration_bins" in computed.dvc("exp", "show", "--csv")


def test_snakemakes_linter_finds_only_what_the_snakefile_argues(study):
    said = study.dvc.run("snakemake", "--lint", status=None).stdout
    assert set(re.findall(r"^    \* (.+)$", said, flags=re.MULTILINE)) == {
        "Specify a conda environment or container for each rule.:"
    }
    assert "conda environment or container" in (study.dvc.root / "Snakefile").read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_mistake_in_the_parameters_is_one_line_and_touches_nothing(computed, engine):
    before = computed.outputs()
    computed.edit({"adapt.training.epochs": 0, "search.bilevel.order": "third"})
    command = ["repro"] if engine == "dvc" else []
    said = getattr(computed, engine)(*command, status=255 if engine == "dvc" else 1)
    lines = [line for line in said.splitlines() if line.startswith("params.yaml: ")]
    assert lines == [
        'params.yaml: search.bilevel.order: "third"; allowed: first, second',
        "params.yaml: adapt.training.epochs: 0; allowed: an integer at least 1",
    ]
    assert "Traceback" not in said
    after = computed.outputs()
    assert {path for path in before if after.get(path) != before[path]} <= {"data/params.ok", "data/watched/packages"}
    assert set(after) <= set(before)
