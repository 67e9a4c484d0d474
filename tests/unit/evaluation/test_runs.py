import json

import numpy as np
import pytest

from tailnas.errors import UserError
from tailnas.evaluation.runs import read_results, run_name


def read(study):
    results, _, splits, _ = study.arguments
    return read_results(results, splits, study)


def test_runs_come_from_the_study_in_its_order_and_not_from_the_disk(make_study):
    study = make_study(seeds=(1, 0), imbalance_factors=(30, 10))
    names = [run.name for run in read(study).runs]
    assert names[:4] == ["darts-if30-seed1", "darts-if30-seed0", "bbn_hls-if30-seed1", "bbn_hls-if30-seed0"]
    assert len(names) == 12

    class Smaller:
        methods, imbalance_factors, seeds = ["random"], [10], [0]

    results, _, splits, _ = study.arguments
    assert [run.name for run in read_results(results, splits, Smaller()).runs] == ["random-if10-seed0"]


def test_run_names_write_factors_as_params_yaml_does():
    assert run_name("darts", 30, 0) == "darts-if30-seed0"
    assert run_name("bbn_hls", 2.5, 7) == "bbn_hls-if2.5-seed7"


def test_what_a_run_holds(make_study):
    study = make_study(methods=("bbn_hls", "random"))
    searched, random = read(study).runs
    assert searched.searched and not random.searched
    assert set(searched.alphas) == {"normal", "reduce", "instance_head", "class_head"}
    assert searched.alphas["class_head"].shape == (13, 14, 8)
    assert random.alphas == {}
    assert sorted(searched.counts, reverse=True) == [124, 85, 58, 40, 27, 18, 12, 8, 6, 4]
    assert searched.confusion["adapted"].sum() == 500 == searched.test_images
    diagonal = np.diag(searched.confusion["retrained"]) / searched.confusion["retrained"].sum(axis=1)
    assert searched.recall["retrained"] == pytest.approx(diagonal)
    assert [run.name for run in read(study).of("random", 30, 0)] == ["random-if30-seed0"]
    assert read(study).of("random", 10) == []


def test_a_study_without_pretraining_is_read(make_study):
    study = make_study(methods=("random",))
    for file in (study.root / "results/pretrain/seed0").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"pretrain/seed0/history\.csv: no such file"):
        read(study)
    (study.root / "results/pretrain/seed0").rmdir()
    (study.root / "results/pretrain").rmdir()
    assert read(study).pretrain == {}


def test_class_names_that_look_like_numbers_or_nothing_stay_names(make_study):
    names = ("007", "nan", "NA", "", 'a "quoted", one', "null", "1e3", "None", "π", "<b>")
    study = make_study(classes=names, methods=("random",))
    assert read(study).runs[0].classes == names


FILES = {
    "search/history.csv": "row,of\nnonsense,1\n",
    "search/cost.json": "[]",
    "search/alphas.npz": "not an archive",
    "derive/genotype.json": '{"normal": []}',
    "retrain/history.csv": "",
    "adapt/history.csv": "loss\n1\n",
    "evaluate/metrics.json": "{",
    "evaluate/per_class.csv": "class,count\n0,1\n",
    "evaluate/confusion.csv": "model,true,predicted,count\nretrained,0,99,1\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_is_named_in_one_line(make_study, name):
    study = make_study(methods=("darts",))
    path = study.run("darts") / name
    content = path.read_bytes()
    for damage in (FILES[name].encode(), b"\xff\xfe\x00", b"", content[: len(content) // 2], None):
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
        if damage == content[: len(content) // 2] and name in ("search/history.csv", "retrain/history.csv"):
            continue  # half a history may be a shorter, valid one; the alphas' epochs then do not fit
        if damage == content[: len(content) // 2] and name == "adapt/history.csv":
            continue
        with pytest.raises(UserError) as error:
            read(study)
        assert str(path) in str(error.value) or "history.csv says" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("retrained", None, "retrained is None"),
        ("adapted", {}, "no key adapted.top1"),
        ("parameters", -1, "parameters is -1"),
        ("multiply_adds", 1.5, "multiply_adds is 1.5"),
        ("groups", {"rule": "halves"}, "groups.rule is 'halves'"),
        ("groups", {"rule": "thirds", "many": [0], "medium": [1], "few": [1]}, "each of 0 to 9 once"),
    ],
)
def test_wrong_values_in_metrics_are_named(make_study, key, value, message):
    study = make_study(methods=("random",))
    path = study.run("random") / "evaluate/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=message):
        read(study)


@pytest.mark.parametrize("value", [1.2, -0.1, "0.5", True, float("nan")])
def test_a_metric_must_be_a_fraction(make_study, value):
    study = make_study(methods=("random",))
    path = study.run("random") / "evaluate/metrics.json"
    found = json.loads(path.read_text())
    found["adapted"]["macro_f1"] = value
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"adapted\.macro_f1 is .*; allowed: a number from 0 to 1"):
        read(study)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_tables_that_do_not_fit_each_other_are_refused(make_study):
    study = make_study(methods=("darts",))
    run = study.run("darts")
    counts = study.root / "data/splits/if30-seed0/counts.csv"
    edit(counts, ",124,", ",125,")
    with pytest.raises(UserError, match=r"per_class\.csv: column 'count'"):
        read(study)
    edit(counts, ",125,", ",124,")
    edit(run / "search/history.csv", "\n3,", "\n2,")
    with pytest.raises(UserError, match="'epoch' does not ascend"):
        read(study)
    edit(run / "search/history.csv", "\n2,", "\nx,")
    with pytest.raises(UserError, match=r"history\.csv row 2: column 'epoch' is 'x'; allowed: a number"):
        read(study)


def test_alphas_of_another_length_or_unknown_components_are_refused(make_study):
    study = make_study(methods=("darts",))
    path = study.run("darts") / "search/alphas.npz"
    good = dict(np.load(path))
    for bad, message in (
        ({name: values[1:] for name, values in good.items()}, "has shape"),
        ({"normal": good["normal"]}, "no component 'reduce'"),
        (good | {"tail": good["normal"]}, "'tail' is not known"),
        (good | {"normal": good["normal"] * np.nan}, "NaN"),
    ):
        np.savez(path, **bad)
        with pytest.raises(UserError, match=message):
            read(study)


def test_alphas_are_never_unpickled(make_study):
    study = make_study(methods=("darts",))
    path = study.run("darts") / "search/alphas.npz"
    np.savez(path, normal=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(UserError, match="cannot be read as alphas"):
        read(study)
