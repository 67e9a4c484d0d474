import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tailnas.genotype.genotype import Genotype
from tailnas.report.comparisons import comparisons_frame, comparisons_table
from tailnas.report.plots import confusion_frame, per_class_frame, search_frame
from tailnas.report.show import main
from tailnas.report.summary import mean_metric, results_table, study_metrics, summary_frame


def test_summary_has_one_row_per_run_with_the_runs_own_numbers(make_tree):
    tree = make_tree(seeds=(0, 1))
    frame = summary_frame(tree.read())
    assert frame["run"].tolist()[:2] == ["darts-30-0-0", "darts-30-1-0"]
    stored = json.loads((tree.run("bbn_hls", seed=1) / "evaluate/metrics.json").read_text())
    row = frame.set_index("run").loc["bbn_hls-30-1-0"]
    assert row["retrained_few"] == stored["retrained"]["few"]
    assert row["adapted_ece"] == stored["adapted"]["ece"]
    assert row["search_multiply_adds"] == 48 * 24 * 12 * 2_310_144
    assert frame["pretrain_multiply_adds"].tolist() == [7_000_000_000] * 4 + [0] * 2, "random starts from nothing"
    genotypes = [Genotype.from_json(text) for text in pd.read_csv(io.StringIO(frame.to_csv(index=False)))["genotype"]]
    assert genotypes == [run.genotype for run in tree.read().runs]
    assert np.isnan(frame.set_index("run").loc["random-30-0-0", "softmax_movement"])


def test_a_seeds_value_is_the_mean_of_its_retrainings(make_results):
    results = make_results(methods=("darts", "random"), seeds=(0, 1), retrain_seeds=(0, 1, 2))
    frame = summary_frame(results)
    by_seed = 100 * frame.groupby(["method", "seed"])["adapted_top1"].mean().unstack("seed")
    rows = comparisons_frame(results).query("metric == 'top1' and model == 'adapted' and baseline == 'darts'")
    differences = by_seed.loc["random"] - by_seed.loc["darts"]
    assert (rows["seeds"].item(), rows["difference"].item()) == (2, pytest.approx(differences.mean()))
    half = 12.706205 * differences.std(ddof=1) / 2**0.5
    assert rows["high"].item() - rows["difference"].item() == pytest.approx(half, rel=1e-6)
    line = next(line for line in results_table(frame).splitlines() if line.startswith("random"))
    assert f"{by_seed.loc['random'].mean():.1f} +- {by_seed.loc['random'].std():.1f}" in line
    metrics = study_metrics(results)["random-if30"]["adapted"]["top1"]
    assert 100 * metrics == pytest.approx(by_seed.loc["random"].mean(), abs=1e-4)


def test_differences_that_are_all_alike_have_no_interval(make_results):
    results = make_results(methods=("darts", "random"), seeds=(0, 1))
    gain = {"darts": 0.7, "random": 0.8}
    runs = [
        replace(run, metrics={model: {**own, "top1": gain[run.method]} for model, own in run.metrics.items()})
        for run in results.runs
    ]
    frame = comparisons_frame(replace(results, runs=tuple(runs)))
    row = frame.query("metric == 'top1' and model == 'adapted'").iloc[0]
    assert row["difference"] == pytest.approx(10) and row[["low", "high", "detectable"]].isna().all()


def test_metrics_for_dvc_are_means_over_seeds(make_results):
    results = make_results(seeds=(0, 1), imbalance_factors=(30, 10))
    metrics = study_metrics(results)
    assert list(metrics) == [f"{m}-if{f}" for f in (30, 10) for m in ("darts", "bbn_hls", "random")]
    frame = summary_frame(results).query("method == 'darts' and imbalance_factor == 10")
    assert metrics["darts-if10"]["adapted"]["top1"] == pytest.approx(frame["adapted_top1"].mean(), abs=1e-6)
    assert set(metrics["random-if30"]["retrained"]) == {"top1", "macro_f1", "many", "medium", "few"}


def test_groups_under_different_rules_are_never_averaged(make_results):
    results = make_results(methods=("random",), seeds=(0, 1))
    first, second = results.runs
    results = replace(results, runs=(first, replace(second, groups=replace(second.groups, rule="thirds"))))
    assert mean_metric(list(results.runs), "adapted", "few") is None
    assert mean_metric(list(results.runs), "adapted", "top1") is not None
    assert set(study_metrics(results)["random-if30"]["adapted"]) == {"top1", "macro_f1"}


def test_table_for_the_terminal_of_one_seed(make_results):
    frame = summary_frame(make_results())
    table = results_table(frame)
    assert table.isascii()
    lines = table.splitlines()
    assert lines[0] == "Imbalance factor 30, retrained -> head adapted, one seed: no interval"
    assert len({len(line) for line in lines[1:]}) == 1
    assert [line.split()[0] for line in lines[3:]] == ["darts-30-0-0", "bbn_hls-30-0-0", "random-30-0-0"]
    row = frame.iloc[0]
    assert f"{100 * row['retrained_few']:.1f} -> {100 * row['adapted_few']:.1f}" in lines[3]
    assert f"{row['parameters']:,}" in lines[3]


def test_table_over_seeds_has_means_and_survives_the_csv(make_results):
    frame = summary_frame(make_results(seeds=(0, 1, 2), imbalance_factors=(30, 10)))
    table = results_table(frame)
    assert table == results_table(pd.read_csv(io.StringIO(frame.to_csv(index=False))))
    assert table.count("mean of 3 seeds") == 2
    top1 = 100 * frame.query("method == 'darts' and imbalance_factor == 30")["retrained_top1"]
    assert f"{top1.mean():.1f} +- {top1.std():.1f}" in table.splitlines()[3]


def test_comparisons_are_paired_differences_in_points(make_results):
    results = make_results(seeds=(0, 1, 2))
    frame = comparisons_frame(results)
    row = frame.query("metric == 'top1' and model == 'adapted' and method == 'bbn_hls' and baseline == 'random'").iloc[
        0
    ]
    top1 = {m: [run.metrics["adapted"]["top1"] for run in results.of(m)] for m in ("bbn_hls", "random")}
    differences = [100 * (a - b) for a, b in zip(top1["bbn_hls"], top1["random"], strict=True)]
    assert row["difference"] == pytest.approx(sum(differences) / 3)
    assert row["low"] < row["difference"] < row["high"] and 0 < row["p"] <= row["p_holm"] <= 1
    table = comparisons_table(pd.read_csv(io.StringIO(frame.to_csv(index=False))))
    assert table == comparisons_table(frame) and table.isascii()
    assert f"bbn_hls - random {row['difference']:+5.1f}" in table
    assert "bbn_hls - bbn_hls" not in table


def test_one_seed_compares_nothing(make_results):
    assert comparisons_table(comparisons_frame(make_results())) == ""


def test_tables_for_dvc_plots(make_results):
    results = make_results(seeds=(0, 1))
    search = search_frame(results)
    assert set(search["method"]) == {"darts", "bbn_hls"}
    assert len(search) == 2 * 2 * 12
    assert "genotype" not in search
    assert search.query("method == 'darts'")["mixing_ratio"].isna().all()
    per_class = per_class_frame(results)
    assert len(per_class) == 6 * 2 * 10
    confusion = confusion_frame(results)
    assert confusion.groupby("method").size().to_dict() == {"darts": 500, "bbn_hls": 500, "random": 500}
    own = confusion.query("method == 'random'")
    correct = (own["actual"] == own["predicted"]).mean()
    assert correct == pytest.approx(results.of("random", seed=0)[0].metrics["adapted"]["top1"])


def test_a_study_that_searches_nothing_has_an_empty_search_table(make_results):
    frame = search_frame(make_results(methods=("random",)))
    assert len(frame) == 0
    assert "epoch" in frame


def test_show_prints_the_reports_tables(make_results, tmp_path, capsys):
    results = make_results(seeds=(0, 1))
    summary, comparisons = summary_frame(results), comparisons_frame(results)
    summary.to_csv(tmp_path / "summary.csv", index=False)
    comparisons.to_csv(tmp_path / "comparisons.csv", index=False)
    main([str(tmp_path)])
    page = f"report: {tmp_path / 'index.html'}\n"
    assert capsys.readouterr().out == "\n\n".join([results_table(summary), comparisons_table(comparisons), page])


@pytest.mark.parametrize("summary", [None, "", "run,method\na,b\n", '"'])
def test_show_says_in_one_line_what_it_cannot_read(tmp_path, summary):
    if summary is not None:
        (tmp_path / "summary.csv").write_text(summary)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path)])
    assert str(ended.value.code).startswith(f"{tmp_path / 'summary.csv'}: ")
    assert "\n" not in str(ended.value.code)


def test_show_without_a_folder_is_one_line_and_status_1():
    command = [sys.executable, "-m", "tailnas.report.show"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == "report: 0 folders; allowed: one, such as results/report\n"
