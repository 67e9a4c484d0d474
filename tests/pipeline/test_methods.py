"""Every search method from params.yaml to the report, with both engines."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from .conftest import FACTOR, LONG, METHODS
from .project import Project

RUNS = [f"results/runs/{method}-{FACTOR}-0-0" for method in METHODS]
KINDS = ("bbn_hls", "imb_nas", "random_best", "darts_v2", "frozen")


def test_snakemake_computes_every_method(every_method):
    outputs = every_method.outputs()
    assert {f"{run}/evaluate/metrics.json" for run in RUNS} <= set(outputs)
    assert every_method.is_clean()


def test_dvc_searches_to_the_same_bytes(every_method, tmp_path):
    """One method of each kind; the slow test below computes all of them again, and what comes after."""
    project = every_method.copy(tmp_path / "project")
    runs = [f"{method}-{FACTOR}-0" for method in KINDS]
    project.forget(*(f"results/runs/{run}/search" for run in runs))
    assert project.ran(lambda: project.dvc("repro", *(f"search@{run}" for run in runs))) == {
        f"search/{run}" for run in runs
    }
    assert project.outputs() == every_method.outputs()


@pytest.mark.parametrize("methods", [["darts", "imb_nas"], pytest.param(METHODS, marks=pytest.mark.slow)], ids=len)
def test_what_a_method_takes_is_known_before_it_is_computed(every_method_keys, tmp_path, methods):
    """Each kind of stage has a time, so that the estimate of no study is unknown."""
    project = Project.create(tmp_path / "project", **{**every_method_keys, "study.methods": methods})
    known = json.loads(project.run("python", "-m", "workflow.timed_step").stdout)
    kinds = {stage.partition("@")[0] for stage in project.run("dvc", "stage", "list", "--name-only").stdout.split()}
    assert kinds - {"validate", "exported"} <= set(known)
    assert all(0 < seconds < 600 for seconds in known.values())


@pytest.mark.slow
@pytest.mark.timeout(LONG)
def test_dvc_computes_every_method_from_nothing_to_the_same_bytes(every_method, every_method_keys, tmp_path):
    project = Project.create(tmp_path / "project", **every_method_keys)
    project.run("dvc", "repro", patience=LONG)  # every stage loads torch for itself
    assert project.outputs() == every_method.outputs()


@pytest.mark.slow
def test_a_line_of_the_table_is_retrained_and_tested_again_to_the_same_bytes(every_method, tmp_path):
    project = every_method.copy(tmp_path / "project")
    summary = pd.read_csv(project.root / "results" / "report" / "summary.csv").set_index("method")
    project.edit({"study.methods": ["given"], "search.given.genotypes": [summary.loc["bbn_hls", "genotype"]]})
    project.snakemake()
    runs, outputs = (f"results/runs/{method}-{FACTOR}-0-0" for method in ("bbn_hls", "given")), project.outputs()
    found, again = ({path.removeprefix(run): outputs[path] for path in outputs if path.startswith(run)} for run in runs)
    assert found["/retrain/model.safetensors"] == again["/retrain/model.safetensors"]
    assert found["/adapt/model.safetensors"] == again["/adapt/model.safetensors"]
    assert found["/evaluate/metrics.json"] == again["/evaluate/metrics.json"]


def test_every_method_stands_in_the_report(every_method):
    root = every_method.root
    summary = pd.read_csv(root / "results" / "report" / "summary.csv")
    assert summary["method"].tolist() == METHODS
    page = (root / "results" / "report" / "index.html").read_text()
    assert all(f"{method}-{FACTOR}-0" in page for method in METHODS)


def test_methods_that_search_differ_and_references_are_what_they_say(every_method):
    runs = every_method.root / "results" / "runs"
    genotypes = {
        method: json.loads((runs / f"{method}-{FACTOR}-0" / "derive" / "genotype.json").read_text())
        for method in METHODS
    }
    assert genotypes["resnet32"] == {"network": "resnet32"}
    assert genotypes["frozen"]["pretrained"]["architecture"] == "shufflenet_v2_x0_5"
    assert genotypes["darts_v2"]["normal"][-1] == ["dil_conv_3x3", 2]
    assert {"instance_head", "class_head"} <= set(genotypes["bbn_hls"])
    costs = {
        method: json.loads((runs / f"{method}-{FACTOR}-0" / "search" / "cost.json").read_text()) for method in METHODS
    }
    unsearched = {"random", "darts_v2", "given", "resnet32", "frozen"}
    for method in unsearched:
        assert costs[method]["multiply_adds"] == 0
    for method in set(METHODS) - unsearched:
        assert costs[method]["multiply_adds"] > 0
