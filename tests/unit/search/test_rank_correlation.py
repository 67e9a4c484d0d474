"""Rank correlations with known answers, and the experiment in small."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks import rank_correlation
from benchmarks.correlation import agreement, agreement_gain, correlation, gain
from benchmarks.target import Target, balanced_source

SMOKE = Path(__file__).parents[3] / "presets" / "smoke.yaml"


@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_orders_that_agree_and_that_do_not(kind):
    scores = [0.1, 0.2, 0.4, 0.5, 0.7, 0.9]
    assert correlation(kind, scores, [score**3 for score in scores]).value == pytest.approx(1)
    assert correlation(kind, scores, scores[::-1]).value == pytest.approx(-1)
    same = correlation(kind, scores, scores)
    assert (same.low, same.high) == pytest.approx((1, 1)) and same.n == 6


def test_values_by_hand():
    """Four items, one of six pairs in the other order: tau = (5 - 1) / 6; rho = 1 - 6 * 2 / (4 * 15)."""
    assert correlation("kendall", [1, 2, 3, 4], [1, 3, 2, 4]).value == pytest.approx(4 / 6)
    assert correlation("spearman", [1, 2, 3, 4], [1, 3, 2, 4]).value == pytest.approx(0.8)


def test_intervals_cover_no_correlation_and_tell_a_real_one():
    generator = np.random.default_rng(0)
    truth = generator.standard_normal(40)
    noise = generator.standard_normal(40)
    none = correlation("kendall", truth, noise)
    assert none.low < 0 < none.high
    close = truth + 0.5 * generator.standard_normal(40)
    assert correlation("kendall", truth, close).low > 0
    better = gain("kendall", close, noise, truth)
    assert better.low > 0 and better.value == pytest.approx(
        correlation("kendall", close, truth).value - correlation("kendall", noise, truth).value
    )
    assert gain("kendall", noise, noise, truth).high == 0


def test_several_scorers_count_by_the_mean_of_their_correlations():
    """Not by the correlation of their mean: [1, 2, 3] and [3, 2, 1] are worth 1 and -1, and their mean is constant."""
    truth = [1, 2, 3]
    assert correlation("kendall", [[1, 2, 3], [3, 2, 1]], truth).value == 0
    assert correlation("kendall", [[1, 2, 3], [1, 3, 2]], truth).value == pytest.approx((1 + 1 / 3) / 2)
    assert gain("kendall", [[1, 2, 3], [1, 3, 2]], [[3, 2, 1], [3, 2, 1]], truth).value == pytest.approx(2 / 3 + 1)


def test_agreement_is_the_mean_over_pairs():
    """The first and second agree with 1/3, the first and third with -1, the second and third with -1/3."""
    scores = [[1, 2, 3], [1, 3, 2], [3, 2, 1]]
    assert agreement("kendall", scores).value == pytest.approx((1 / 3 - 1 - 1 / 3) / 3)
    assert agreement("kendall", scores[:2]).value == correlation("kendall", *scores[:2]).value
    assert agreement_gain("kendall", scores[:2], scores[1:]).value == pytest.approx(1 / 3 + 1 / 3)
    assert agreement_gain("kendall", scores, scores).high == 0


def test_a_constant_score_has_no_correlation():
    assert np.isnan(correlation("spearman", [1, 1, 1], [1, 2, 3]).value)


def test_the_experiment_goes_on_where_it_was_interrupted(tmp_path, capsys, monkeypatch):
    document = yaml.safe_load(SMOKE.read_text())
    document["runtime"].update(device="cpu", threads=1)
    document["study"].update(methods=["random"], seeds=[0, 1])
    document["retrain"].update(epochs=1)
    document["search"].update(epochs=1)
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(document))
    folder = tmp_path / "out"
    command = [str(params), "--output", str(folder), "--architectures", "2", "--sets", "balanced_small"]
    command += ["--strategies", "scratch"]
    threads = torch.get_num_threads()
    try:
        rank_correlation.main(command)
        whole = (folder / "scores.csv").read_text().splitlines()
        assert len(whole) == 1 + 2 * 2 + 2 * 2 * 2
        correlations = (folder / "correlations.csv").read_text()
        for what in (
            "balanced_small: one seed and another (noise ceiling)",
            "scratch and balanced_small: gain by new statistics",
            "scratch: one super-network and another, gain by new statistics",
        ):
            assert f'"{what}",kendall,' in correlations

        # The last training and the last proxy are lost: both come back as they were, and nothing else is computed
        kept = [row for row in whole if not row.startswith(("balanced_small,,1,1", "scratch,shared,1,1"))]
        (folder / "scores.csv").write_text("\n".join(kept) + "\n")
        trained = []
        alone = rank_correlation.Experiment.alone
        monkeypatch.setattr(
            rank_correlation.Experiment, "alone", lambda self, *what: trained.append(what) or alone(self, *what)
        )
        rank_correlation.main(command)
        assert trained == [("balanced_small", 1, 1)]
        assert sorted((folder / "scores.csv").read_text().splitlines()) == sorted(whole)
        assert (folder / "correlations.csv").read_text() == correlations

        document["retrain"].update(epochs=2)
        params.write_text(yaml.safe_dump(document))
        with pytest.raises(SystemExit, match=r"its results are of retrain\.epochs 1, not 2"):
            rank_correlation.main(command)
        assert sorted((folder / "scores.csv").read_text().splitlines()) == sorted(whole)
    finally:
        torch.set_num_threads(threads)


def test_training_sets_have_the_sizes_that_the_comparison_needs(tmp_path):
    params = rank_correlation.load_params(SMOKE)
    device = torch.device("cpu")
    target, origin = Target.load(params, device), balanced_source(params, device)
    experiment = rank_correlation.Experiment(target, origin, [], tmp_path)
    data = {name: experiment.data(name, 0) for name in rank_correlation.SETS}
    counts = {name: torch.bincount(its.train.labels) for name, its in data.items()}
    assert int(counts["imbalanced"].min()) == int(counts["imbalanced"].max() / params.study.imbalance_factors[0])
    assert set(counts["balanced"].tolist()) == {int(counts["imbalanced"].max())}
    assert set(counts["balanced_small"].tolist()) == {int(counts["imbalanced"].sum()) // 10}
    assert data["source"] is origin
    assert all(its.held_out is not origin.held_out for name, its in data.items() if name != "source")
