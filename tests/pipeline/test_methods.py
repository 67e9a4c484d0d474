"""Every search method from params.yaml to the report, with both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from tailnas.params import Method

from .project import Project

STUDY = {
    "study.methods": list(get_args(Method)),
    "study.imbalance_factors": [10],
    "data.source.alphabet": "digits",
    "split.n_max": 40,
    "pretrain.single_path_epochs": 1,
    "search.epochs": 1,
    "search.candidates": 3,
    "search.candidate_epochs": 1,
    "retrain.epochs": 1,
    "adapt.epochs": 1,
}


RUNS = [f"results/runs/{method}-if10-seed0" for method in get_args(Method)]


@pytest.fixture(scope="module")
def by_snakemake(tmp_path_factory) -> Project:
    """The study from nothing."""
    project = Project.create(tmp_path_factory.mktemp("methods") / "project", **STUDY)
    project.snakemake()
    return project


def test_snakemake_computes_every_method(by_snakemake):
    outputs = by_snakemake.outputs()
    assert {f"{run}/evaluate/metrics.json" for run in RUNS} <= set(outputs)
    assert by_snakemake.is_clean() and by_snakemake.planned() == set()


def test_dvc_searches_every_method_to_the_same_bytes(by_snakemake, tmp_path):
    """What comes after a search does not depend on the method; the slow test below computes that again as well."""
    project = by_snakemake.copy(tmp_path / "project")
    for run in RUNS:
        project.forget(f"{run}/search")
    searches = {f"search/{Path(run).name}" for run in RUNS}
    assert project.ran(lambda: project.dvc("repro")) == searches
    assert project.outputs() == by_snakemake.outputs()
    assert project.is_clean() and project.planned() == set()


@pytest.mark.slow
def test_dvc_computes_every_method_from_nothing_to_the_same_bytes(by_snakemake, tmp_path):
    project = Project.create(tmp_path / "project", **STUDY)
    project.dvc("repro")
    assert project.outputs() == by_snakemake.outputs()


def test_every_method_stands_in_the_report(by_snakemake):
    root = by_snakemake.root
    summary = pd.read_csv(root / "results" / "report" / "summary.csv")
    assert summary["method"].tolist() == list(get_args(Method))
    page = (root / "results" / "report" / "index.html").read_text()
    assert all(f"{method}-if10-seed0" in page for method in get_args(Method))


def test_methods_that_search_differ_and_references_are_what_they_say(by_snakemake):
    runs = by_snakemake.root / "results" / "runs"
    genotypes = {
        method: json.loads((runs / f"{method}-if10-seed0" / "derive" / "genotype.json").read_text())
        for method in get_args(Method)
    }
    assert genotypes["resnet32"] == {"network": "resnet32"}
    assert genotypes["darts_v2"]["normal"][-1] == ["dil_conv_3x3", 2]
    assert {"instance_head", "class_head"} <= set(genotypes["bbn_hls"])
    costs = {
        method: json.loads((runs / f"{method}-if10-seed0" / "search" / "cost.json").read_text())
        for method in get_args(Method)
    }
    for method in ("random", "darts_v2", "resnet32"):
        assert costs[method]["multiply_adds"] == 0
    for method in set(get_args(Method)) - {"random", "darts_v2", "resnet32"}:
        assert costs[method]["multiply_adds"] > 0
