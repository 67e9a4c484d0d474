"""Rank correlations with known answers, and the experiment in small."""

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import rank_correlation
from benchmarks.correlation import (
    CORRELATIONS,
    agreement,
    agreement_gain,
    correlation,
    crossed,
    deviations,
    gain,
    mean_of_largest,
    shortfall,
)
from benchmarks.target import Target, balanced_source, ranking_settings
from tailnas.foundation.errors import UserError
from tailnas.validate.presets import load_preset
from tests.unit.small_search import settings_of


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


@pytest.mark.parametrize(("kind", "reference"), [("kendall", stats.kendalltau), ("spearman", stats.spearmanr)])
def test_ties_are_counted_as_scipy_counts_them(kind, reference):
    generator = np.random.default_rng(1)
    scores, truth = (generator.integers(0, 6, 25).astype(float) for _ in range(2))
    scores[0] = -np.inf
    assert correlation(kind, scores, truth).value == pytest.approx(reference(scores, truth).statistic)


@pytest.mark.parametrize(("kind", "reference"), [("kendall", stats.kendalltau), ("spearman", stats.spearmanr)])
def test_a_draw_counts_an_architecture_as_often_as_it_holds_it(kind, reference):
    generator = np.random.default_rng(2)
    scores, truth = (generator.integers(0, 9, 20).astype(float) for _ in range(2))
    drawn = generator.integers(0, 20, (5, 20))
    counts = np.array([np.bincount(draw, minlength=20) for draw in drawn], float)
    expected = [reference(scores[draw], truth[draw]).statistic for draw in drawn]
    assert CORRELATIONS[kind](scores, truth, counts) == pytest.approx(expected)
    assert np.isnan(CORRELATIONS[kind](scores, truth, np.eye(20)[:1] * 20)).all(), "one architecture has no order"


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


@pytest.fixture
def few_draws(monkeypatch):
    """Of a bootstrap whose interval is not looked at closely."""
    monkeypatch.setattr("benchmarks.correlation.DRAWS", 100)


@pytest.mark.usefixtures("few_draws")
def test_several_scorers_count_by_the_mean_of_their_correlations():
    """Not by the correlation of their mean: [1, 2, 3] and [3, 2, 1] are worth 1 and -1, and their mean is constant."""
    truth = [1, 2, 3]
    assert correlation("kendall", [[1, 2, 3], [3, 2, 1]], truth).value == 0
    assert correlation("kendall", [[1, 2, 3], [1, 3, 2]], truth).value == pytest.approx((1 + 1 / 3) / 2)
    assert gain("kendall", [[1, 2, 3], [1, 3, 2]], [[3, 2, 1], [3, 2, 1]], truth).value == pytest.approx(2 / 3 + 1)


@pytest.mark.usefixtures("few_draws")
def test_agreement_is_the_mean_over_pairs():
    """The first and second agree with 1/3, the first and third with -1, the second and third with -1/3."""
    scores = [[1, 2, 3], [1, 3, 2], [3, 2, 1]]
    assert agreement("kendall", scores).value == pytest.approx((1 / 3 - 1 - 1 / 3) / 3)
    assert agreement("kendall", scores[:2]).value == correlation("kendall", *scores[:2]).value
    assert agreement_gain("kendall", scores[:2], scores[1:]).value == pytest.approx(1 / 3 + 1 / 3)
    assert agreement_gain("kendall", scores, scores).high == 0


@pytest.mark.usefixtures("few_draws")
def test_trainings_of_two_sets_are_crossed_by_unlike_seeds():
    """Within each set the seeds agree with 1/3; across, seed 0 with seed 1 with 1/3, and seed 1 with seed 0 with -1."""
    first = {0: np.array([1.0, 2, 3]), 1: np.array([1.0, 3, 2])}
    second = {0: np.array([3.0, 1, 2]), 1: np.array([2.0, 1, 3])}
    ways = [stats.kendalltau(first[0], second[1]).statistic, stats.kendalltau(first[1], second[0]).statistic]
    assert crossed("kendall", first, second).value == pytest.approx(np.mean(ways))
    within = [stats.kendalltau(*scores.values()).statistic for scores in (first, second)]
    assert shortfall("kendall", first, second).value == pytest.approx(np.mean(within) - np.mean(ways))
    assert shortfall("kendall", first, first).high == 0, "one set is as far from itself as its seeds are"
    assert crossed("kendall", {0: first[0]}, {1: second[1], 0: second[0]}).value == pytest.approx(ways[0])
    with pytest.raises(ValueError, match="no two differ"):
        crossed("kendall", {0: first[0]}, {0: second[0]})


@pytest.mark.parametrize("seeds", [2, 5])
def test_deviations_are_those_of_an_analysis_of_variance(seeds):
    """Two-way, without interaction: architectures' mean square less the rest's, over the seeds."""
    generator = np.random.default_rng(3)
    scores = generator.normal(0, 2, 30) + generator.normal(0, 1, (seeds, 30)) + generator.normal(0, 9, (seeds, 1))
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    within = (rest**2).sum() / (29 * (seeds - 1))
    between = (seeds * scores.mean(0).var(ddof=1) - within) / seeds
    apart, again = deviations(scores)
    assert (apart.value, again.value) == pytest.approx((between**0.5, within**0.5), rel=1e-12)
    assert apart.low < 2 < apart.high and again.low < 1 < again.high


@pytest.mark.usefixtures("few_draws")
def test_architectures_that_no_two_seeds_order_alike_do_not_differ():
    apart, again = deviations([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert apart.value == 0 and again.value == pytest.approx(2**0.5)


def test_the_largest_of_normal_draws():
    """Of two 1 / sqrt(pi), of three 3 / (2 sqrt(pi)); of many by simulation."""
    assert mean_of_largest(2) == pytest.approx(np.pi**-0.5)
    assert mean_of_largest(3) == pytest.approx(1.5 * np.pi**-0.5)
    drawn = np.random.default_rng(0).standard_normal((20_000, 60)).max(1)
    assert mean_of_largest(60) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 20_000**0.5)


def rows(*kept):
    """A table of three architectures; `kept` are (what, how, seed, scores)."""
    lines = [f"{what},{how},{seed},{i},{s}" for what, how, seed, scores in kept for i, s in enumerate(scores)]
    return "\n".join(["what,how,seed,architecture,score", *lines, ""])


ALONE = [("balanced", "", 0, (1, 2, 3)), ("balanced", "", 1, (1, 3, 2)), ("imbalanced", "", 0, (3, 2, 1))]


def test_rows_alone_are_enough_for_the_table(tmp_path, capsys):
    """Of the seeds that have all architectures: the second of `imbalanced` lacks one."""
    file = tmp_path / "scores.csv"
    half = [("imbalanced", "", 1, (3, 2)), ("none", "anew", 0, (1, 2, 3)), ("none", "shared", 0, (3, 2, 1))]
    half += [("head", "anew", 0, (2, 3, 1)), ("head", "shared", 0, (2, 3, 1)), ("none", "anew", 1, (2, 2, 1))]
    file.write_text(rows(*ALONE, *half))
    rank_correlation.main(["--table", str(file)])
    varies, table = (
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines()]
        for part in capsys.readouterr().out.split("\n\n")
    )
    assert [line[:3] for line in varies[2:]] == [["balanced", "2", "200.0"], ["imbalanced", "1", "200.0"]]
    assert varies[2][3].startswith("70.71 [") and varies[2][4].startswith("70.71 [") and varies[2][5] == "+59.8"
    assert varies[3][3:] == ["", "", ""] and varies[0][5] == "the best of 3 over the mean"
    found = {line[0]: line[1].split()[0] for line in table[2:]}
    assert table[0] == ["", "kendall", "spearman", "architectures"] and {line[3] for line in table[2:]} == {"3"}
    assert found["balanced: one seed and another (noise ceiling)"] == "+0.33"
    assert found["balanced and imbalanced: single trainings, unlike seeds"] == "-0.33"
    assert "balanced and imbalanced: short of the noise ceilings" not in found, "imbalanced has no second seed"
    assert not [what for what in found if "imbalanced: one seed" in what]
    assert found["none and imbalanced"] == "-1.00" and found["none and imbalanced, shared statistics"] == "+1.00"
    assert found["none and imbalanced: gain by new statistics"] == "-2.00"
    assert found["head and imbalanced"] == "+0.33" and found["head and imbalanced: gain over none"] == "+1.33"
    assert not [what for what in found if what.startswith("none") and "over none" in what]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("what,how,seed,architecture,score\n", "no rows; allowed: scores.csv of an experiment"),
        ("what,seed\nnone,0\n", "'how'; allowed: rows of what, how, seed, architecture, score"),
        (rows(*ALONE) + "imbalanced,,1,0,\n", "could not convert string to float: ''; allowed: rows of what"),
    ],
    ids=["missing", "empty", "other columns", "no score"],
)
def test_a_table_that_is_none_is_one_line(tmp_path, text, said):
    file = tmp_path / "scores.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        rank_correlation.main(["--table", str(file)])
    assert str(ended.value).startswith(f"{file}: ") and said in str(ended.value)
    assert len(str(ended.value).splitlines()) == 1


def test_a_constant_score_has_no_correlation():
    assert np.isnan(correlation("spearman", [1, 1, 1], [1, 2, 3]).value)


@pytest.mark.slow
def test_the_experiment_goes_on_where_it_was_interrupted(preset, tmp_path, capsys):
    one_epoch = {"training": {"epochs": 1}}
    changes = {"study": {"methods": ["random"], "seeds": [0, 1]}, "retrain": one_epoch, "search": one_epoch}
    folder = tmp_path / "out"
    command = [str(preset(**changes)), "--output", str(folder), "--architectures", "2", "--sets", "balanced_small"]
    command += ["--strategies", "scratch", "--proxies", "synflow", "nwot"]
    rank_correlation.main(command)
    whole = (folder / "scores.csv").read_text().splitlines()
    assert len(whole) == 1 + 2 * 2 + 2 * 2 * 2 + 2 * 2 + 2 * 2 * 2
    correlations = (folder / "correlations.csv").read_text()
    for what in (
        "balanced_small: one seed and another (noise ceiling)",
        "scratch and balanced_small: gain by new statistics",
        "scratch: one super-network and another, gain by new statistics",
        "synflow and balanced_small",
        "nwot and balanced_small, long-tailed batch",
        "nwot and balanced_small: gain by a balanced batch",
        "nwot: one seed and another, balanced batch",
    ):
        assert f'"{what}",kendall,' in correlations

    # The last training and the last scores are lost: all come back as they were, and nothing else is computed
    lost = ("balanced_small,,1,1", "scratch,shared,1,1", "nwot,class_balanced,1,1")
    kept = [row for row in whole if not row.startswith(lost)]
    (folder / "scores.csv").write_text("\n".join(kept) + "\n")
    capsys.readouterr()
    rank_correlation.main(command)
    computed = [
        line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "seed 1" in line or "seed 0" in line
    ]
    scored = ["scored by scratch, seed 1", "scored by nwot, balanced batch, seed 1"]
    assert computed == ["balanced_small seed 1 architecture 1", *scored]
    assert sorted((folder / "scores.csv").read_text().splitlines()) == sorted(whole)
    assert (folder / "correlations.csv").read_text() == correlations

    changes["retrain"] = {"training": {"epochs": 2}}
    with pytest.raises(SystemExit, match=r"its results are of retrain\.training\.epochs 1, not 2"):
        rank_correlation.main([str(preset(**changes)), *command[1:]])
    assert sorted((folder / "scores.csv").read_text().splitlines()) == sorted(whole)


@pytest.fixture
def experiment(preset, tmp_path):
    """make(**changes): an experiment on two architectures, and its origin."""

    def make(**changes):
        params = load_preset(preset(**changes))
        device = torch.device("cpu")
        architectures = rank_correlation.random_architectures(2)
        return rank_correlation.Experiment(
            Target.load(params, device), balanced_source(params, device), architectures, tmp_path
        )

    return make


def test_training_sets_have_the_sizes_that_the_comparison_needs(experiment):
    made = experiment()
    data = {name: made.data(name, 0) for name in rank_correlation.SETS}
    counts = {name: torch.bincount(its.train.labels) for name, its in data.items()}
    largest = int(counts["imbalanced"].max())
    assert int(counts["imbalanced"].min()) == largest // made.params.study.imbalance_factors[0]
    assert set(counts["balanced"].tolist()) == {largest}
    assert set(counts["balanced_small"].tolist()) == {int(counts["imbalanced"].sum()) // 10}
    assert data["source"] is made.origin
    assert all(its.held_out is not made.origin.held_out for name, its in data.items() if name != "source")


@pytest.mark.parametrize("strategy", ["none", "head"])
def test_a_strategy_that_starts_from_single_paths_says_so(experiment, strategy):
    with pytest.raises(UserError, match=r"^pretrain\.single_path: null; allowed: a section"):
        experiment().scorers(strategy, 0)


def test_scores_with_new_statistics_and_with_shared_ones(experiment):
    made = experiment(pretrain={"single_path": {"epochs": 1, "learning_rate": 0.02}})
    scores = {
        how: [scorer(architecture, 0, lambda: None)["balanced_accuracy"] for architecture in made.architectures]
        for how, scorer in made.scorers("none", 0).items()
    }
    assert set(scores) == set(rank_correlation.STATISTICS) and scores["anew"] != scores["shared"]


@pytest.mark.parametrize("adaptation", ["none", "head", "finetune", "scratch"])
def test_strategies_differ_by_nothing_but_the_adaptation(preset, adaptation):
    params = load_preset(preset())
    own, other = params.search.method("imb_nas"), ranking_settings(params, adaptation)
    assert other.adaptation.name == adaptation
    assert getattr(other.adaptation, "beta", own.adaptation.beta) == own.adaptation.beta
    assert other.model_copy(update={"adaptation": own.adaptation}) == own


def test_parameters_whose_adaptation_lacks_settings_are_refused(preset):
    params = load_preset(preset())
    finetune = settings_of("imb_nas", adaptation={"name": "finetune", "beta": 0.9})
    params = params.model_copy(update={"search": params.search.model_copy(update={"imb_nas": finetune})})
    with pytest.raises(UserError, match=r"^search\.imb_nas\.adaptation\.name: 'finetune'; allowed: 'head'"):
        ranking_settings(params, "scratch")
