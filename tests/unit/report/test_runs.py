import re

import numpy as np
import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import Study
from tailnas.report.runs import run_name


def test_runs_come_from_the_study_in_its_order_and_not_from_the_disk(make_tree):
    tree = make_tree(seeds=(1, 0), imbalance_factors=(30, 10))
    names = [run.name for run in tree.read().runs]
    assert names[:4] == ["darts-30-1-0", "darts-30-0-0", "bbn_hls-30-1-0", "bbn_hls-30-0-0"]
    assert len(names) == 12
    smaller = tree.read(Study(methods=["random"], imbalance_factors=[10], seeds=[0], retrain_seeds=[0]))
    assert [run.name for run in smaller.runs] == ["random-10-0-0"]


def test_run_names_write_factors_as_params_yaml_does():
    assert run_name("darts", 30, 0) == "darts-30-0"
    assert run_name("bbn_hls", 2.5, 7) == "bbn_hls-2.5-7"


def test_retrainings_share_their_search(make_tree):
    tree = make_tree(methods=("darts",), seeds=(0, 1), retrain_seeds=(0, 7))
    results = tree.read()
    assert [run.name for run in results.runs] == ["darts-30-0-0", "darts-30-0-7", "darts-30-1-0", "darts-30-1-7"]
    assert [run.name for run in results.searches] == ["darts-30-0-0", "darts-30-1-0"]
    first, again, *_ = results.runs
    assert first.search_name == again.search_name == "darts-30-0" and first.genotype == again.genotype
    assert first.metrics != again.metrics


def test_where_the_data_keeps_its_own_factor_the_measured_one_is_said(make_results):
    results = make_results(methods=("random",), imbalance_factors=("natural",))
    assert results.title("natural") == "Imbalance factor 118 (the data's own)"
    assert results.runs[0].name == "random-natural-0-0" and results.runs[0].measured_factor == 118
    assert make_results(methods=("random",)).title(30) == "Imbalance factor 30"


def test_what_a_run_holds(make_results):
    results = make_results(methods=("bbn_hls", "random"))
    searched, random = results.runs
    assert searched.searched and not random.searched
    assert set(searched.alphas) == {"normal", "reduce", "instance_head", "class_head"}
    assert searched.alphas["class_head"].shape == (13, 14, 8)
    assert random.alphas == {}
    assert sorted(searched.counts, reverse=True) == [124, 85, 58, 40, 27, 18, 12, 8, 6, 4]
    assert searched.confusion["adapted"].sum() == 500 == searched.test_images
    diagonal = np.diag(searched.confusion["retrained"]) / searched.confusion["retrained"].sum(axis=1)
    assert searched.recall["retrained"] == pytest.approx(diagonal)
    assert searched.metrics["retrained"]["top1"] == pytest.approx(diagonal.mean())
    assert [run.name for run in results.of("random", 30, 0)] == ["random-30-0-0"]
    assert results.of("random", 10) == []


def test_a_study_without_pretraining_is_read(make_tree):
    tree = make_tree(methods=("random",))
    folder = tree.root / "results/pretrain"
    (folder / "seed0/history.csv").unlink()
    with pytest.raises(UserError, match=r"pretrain/seed0/history\.csv: .*No such file"):
        tree.read()
    (folder / "seed0/cost.json").unlink()
    (folder / "seed0").rmdir()
    folder.rmdir()
    assert tree.read().pretrain == {}


def test_class_names_that_look_like_numbers_or_nothing_stay_names(make_results):
    names = ("007", "nan", "NA", "", 'a "quoted", one', "null", "1e3", "None", "π", "<b>")
    assert make_results(classes=names, methods=("random",)).runs[0].classes == names


def test_what_diverged_is_read_as_it_was_written(make_tree):
    tree = make_tree(methods=("random",))
    history = tree.run("random") / "retrain/history.csv"
    history.write_text("epoch,learning_rate,loss\n1,0.1,inf\n2,0.1,nan\n")
    np.testing.assert_array_equal(tree.read().runs[0].retrain["loss"], [np.inf, np.nan])


FILES = {
    "search/history.csv": "row,of\nnonsense,1\n",
    "search/mixing_ratio.csv": "mixing_ratio\n0.5\n",
    "search/cost.json": "[]",
    "search/found/alphas.npz": "not an archive",
    "derive/genotype.json": '{"normal": []}',
    "retrain/history.csv": "epoch,loss\n",
    "adapt/history.csv": "loss\n1\n",
    "evaluate/metrics.json": "{",
    "evaluate/confusion.csv": "model,true,predicted,count\nretrained,0,99,1\n",
    "evaluate/per_class.csv": "name,gained,lost\na,0,-7\n",
    "../../../data/splits/if30-seed0/counts.csv": "name,total\na,1.5\n",
}


def folder_of(tree, method, name):
    return (tree.search if name.startswith(("search", "derive")) else tree.run)(method)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_is_named_in_one_line(make_tree, name):
    tree = make_tree(methods=("bbn_hls",))
    path = (folder_of(tree, "bbn_hls", name) / name).resolve()
    content = path.read_bytes()
    for damage in (FILES[name].encode(), b"\xff\xfe\x00", b"", content[: len(content) // 2], None):
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(UserError) as error:
            tree.read()
        assert str(error.value).startswith(f"{path}: ")
        assert "; allowed: " in str(error.value)
        assert "\n" not in str(error.value)


METRICS, CONFUSION, COST = "evaluate/metrics.json", "evaluate/confusion.csv", "search/cost.json"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (METRICS, '"adapted"', '"adopted"', "adapted: missing; allowed: Field required"),
        (METRICS, '"few"', '"fewer"', "retrained.few: missing; allowed: Field required"),
        (METRICS, r'"parameters": \d+', '"parameters": -1', "parameters: -1; allowed: greater than"),
        (METRICS, r'"multiply_adds": \d+', '"multiply_adds": 1.5', "multiply_adds: 1.5; allowed: .*integer"),
        (METRICS, '"rule": "counts"', '"rule": "halves"', "groups.rule: 'halves'; allowed: 'counts' or"),
        (METRICS, '"rule": "counts"', '"rule": "thirds"', r"groups: .*; allowed: those of .*seed0/counts\.csv"),
        (METRICS, r'"top1": [\d.]+', '"top1": 71', "retrained.top1: 71; allowed: less than"),
        (METRICS, r'"top1": [\d.]+', '"top1": -0.1', "retrained.top1: -0.1; allowed: greater than"),
        (METRICS, r'"top1": [\d.]+', '"top1": "0.5"', "retrained.top1: '0.5'; allowed: a valid number"),
        (METRICS, r'"top1": [\d.]+', '"top1": NaN', "retrained.top1: nan; allowed: a finite number"),
        (COST, r'"images": \d+', '"images": -1', "images: -1; allowed: greater than"),
        ("search/history.csv", r"\n3,", "\nx,", "'x'"),
        ("search/history.csv", r"\n12,[^\0]*", "\n", r"alphas\.npz: 13 rows; allowed: 12"),
        ("retrain/history.csv", r"\n3,[\d.]+", "\n3,fast", "fast"),
        ("evaluate/per_class.csv", r"\n9,\d+", "\n9,49", r"gained less lost; allowed: what confusion\.csv says"),
        (CONFUSION, r"adapted,9,9,\d+\n", "", "199 rows; allowed: one per model and pair of the 10 classes"),
        (CONFUSION, "adapted,9,9,", "adapted,9,8,", "200 rows; allowed: one per model and pair of the 10 classes"),
        (CONFUSION, r"adapted,9,9,\d+", "adapted,9,9,0.5", "int64 for float64"),
    ],
)
def test_wrong_values_are_named(make_tree, name, old, new, message):
    tree = make_tree(methods=("darts",))
    path = folder_of(tree, "darts", name) / name
    text = path.read_text()
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(UserError, match=message) as error:
        tree.read()
    assert "\n" not in str(error.value)


def test_alphas_without_a_component_are_refused(make_tree):
    tree = make_tree(methods=("darts",))
    path = tree.search("darts") / "search/found/alphas.npz"
    with np.load(path) as file:
        np.savez(path, normal=file["normal"])
    with pytest.raises(UserError, match=r"alphas\.npz: .*reduce"):
        tree.read()
