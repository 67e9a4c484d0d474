"""What rows say of a claim: known answers, and the exact chance of bad runs against all orders."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.evidence import Rows, below_by_chance, difference, main, verdict
from tailnas.foundation.errors import UserError


@pytest.mark.parametrize(("below", "runs", "others"), [(0, 3, 4), (1, 3, 4), (2, 3, 4), (3, 3, 4), (2, 5, 5)])
def test_bad_runs_by_chance_are_those_of_all_orders(below, runs, others):
    orders = [*combinations(range(runs + others), runs)]  # ranks that the runs have
    hits = sum(set(range(below)) <= set(order) for order in orders)
    assert below_by_chance(below, runs, others) == pytest.approx(hits / len(orders), abs=1e-12)


def test_the_same_seeds_are_paired():
    found = difference(pd.Series([3.0, 5.0, 7.0]), pd.Series([1.0, 4.0, 4.0]))  # 2, 1, 3
    half = 4.302653 / 3**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half), abs=1e-6)
    assert found.paired and found.p == pytest.approx(2 / 8)


def test_other_seeds_are_two_groups():
    rng = np.random.default_rng(0)
    one, other = rng.normal(70, 2, 5), rng.normal(68, 5, 20)
    found = difference(pd.Series(one), pd.Series(other))
    errors = one.var(ddof=1) / 5, other.var(ddof=1) / 20
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 4 + errors[1] ** 2 / 19)
    half = stats.t.ppf(0.975, freedom) * sum(errors) ** 0.5
    middle = one.mean() - other.mean()
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert not found.paired and found.p is None


def test_only_an_interval_without_zero_decides():
    even = pd.Series([50.0, 50.0, 50.0])
    assert verdict(difference(even + pd.Series([1.0, 1.1, 1.2]), even)) == "confirmed"
    assert verdict(difference(even - pd.Series([1.0, 1.1, 1.2]), even)) == "refuted"
    found = difference(even + pd.Series([-1.0, 0.0, 1.0]), even)
    assert verdict(found) == "not decidable: -2.5 to +2.5 are left open"


@pytest.fixture
def study(tmp_path):
    """darts and random, three seeds of two retrainings each; two factors."""
    rows = [
        {
            "run": f"{method}-{factor}-{seed}-{again}",
            "method": method,
            "imbalance_factor": factor,
            "seed": seed,
            "retrained_top1": level + 0.01 * seed + 0.002 * again,
        }
        for method, level in (("darts", 0.5), ("random", 0.505))
        for factor in (10, 100)
        for seed in range(3)
        for again in range(2)
    ]
    file = tmp_path / "summary.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


def test_a_seed_is_the_mean_of_its_retrainings(study):
    rows = Rows.read([study], "retrained_top1", "10")
    assert rows.of("darts").tolist() == pytest.approx([50.1, 51.1, 52.1])


def test_tables_say_what_the_rows_say(study, capsys):
    main(["worst", str(study), "--factor", "100"])
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert table[0][5] == "below 50.6 %"
    assert table[2] == ["darts", "3", "50.1", "51.1", "52.1", "1", "33 %", "[1, 91]", "0.500"]
    main(["claim", str(study), "random > darts", "--factor", "100"])
    assert "| random > darts | 3     | +0.5       | [+0.5, +0.5] |" in capsys.readouterr().out
    main(["power", str(study), "--factor", "100", "--points", "4"])
    found = capsys.readouterr().out.splitlines()[2].split("|")
    assert found[2].strip() == "1.00"
    assert int(found[3]) == 4  # 80 % power of a paired t test at 4 / sqrt(2) standard deviations


def test_paired_takes_the_seeds_that_both_have(study, tmp_path, capsys):
    """Seeds differ by 1 point, methods by 0.5: pairs tell them apart, two groups of other sizes do not."""
    table = pd.read_csv(study)
    table[~((table["method"] == "darts") & (table["seed"] == 0))].to_csv(tmp_path / "fewer.csv", index=False)
    command = ["claim", str(tmp_path / "fewer.csv"), "random > darts", "--factor", "10"]
    main(command)
    assert "| 3 and 2 | +0.0       |" in capsys.readouterr().out
    main([*command, "--paired"])
    assert "| random > darts | 2     | +0.5       | [+0.5, +0.5] |" in capsys.readouterr().out
    table[table["method"].eq("darts") == table["seed"].eq(0)].to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(SystemExit, match="seeds: 0 and 0; allowed: two or more of each method"):
        main(["claim", str(tmp_path / "none.csv"), "random > darts", "--factor", "10", "--paired"])


def test_a_replication_counts_its_seeds_alone(study, tmp_path, capsys):
    table = pd.read_csv(study)
    table.loc[(table["method"] == "random") & (table["seed"] == 0), "retrained_top1"] -= 0.3
    table.to_csv(tmp_path / "odd.csv", index=False)
    command = ["claim", str(tmp_path / "odd.csv"), "random > darts", "--factor", "10"]
    main([*command, "--seeds", "1", "2"])
    assert "| random > darts | 2     | +0.5       | [+0.5, +0.5] |" in capsys.readouterr().out
    main(command)
    assert "| random > darts | 3     | -9.5       |" in capsys.readouterr().out


def test_means_are_over_seeds_and_a_method_without_a_search_moved_nothing(study, tmp_path, capsys):
    table = pd.read_csv(study)
    for column, more in (("adapted_top1", 0.1), ("retrained_few", -0.3), ("adapted_few", 0.2)):
        table[column] = table["retrained_top1"] + more
    table["softmax_movement"] = 0.02 + 0.01 * table["seed"]
    table["skip_share"] = 0.125
    table.loc[table["method"] == "random", "softmax_movement"] = np.nan
    table.to_csv(tmp_path / "whole.csv", index=False)
    main(["methods", str(tmp_path / "whole.csv"), "--factor", "10"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert lines[0][2:6] == ["retrained %", "adapted %", "retrained few %", "adapted few %"]
    assert lines[2][:2] == ["darts", "3"] and lines[3][:2] == ["random", "3"]
    assert lines[2][2:6] == [f"{value} +- 1.0" for value in (51.1, 61.1, 21.1, 71.1)]
    assert lines[3][2:6] == [f"{value} +- 1.0" for value in (51.6, 61.6, 21.6, 71.6)]
    assert lines[2][6:] == ["0.030 +- 0.010", "12.5 +- 0.0"] and lines[3][6:] == ["", "12.5 +- 0.0"]


def test_a_head_is_paired_with_the_network_that_it_was_adapted_from(study, tmp_path, capsys):
    table = pd.read_csv(study)
    table["adapted_top1"] = table["retrained_top1"] + 0.01 * (1 + table["seed"])
    for group, gain in (("many", -0.02), ("medium", 0.0), ("few", 0.05)):
        table[f"retrained_{group}"] = 0.3 + 0.1 * table["seed"]
        table[f"adapted_{group}"] = table[f"retrained_{group}"] + gain * (1 + table["seed"])
    table.loc[table["method"] == "random", "adapted_few"] = np.nan
    table.to_csv(tmp_path / "whole.csv", index=False)
    main(["heads", str(tmp_path / "whole.csv"), "--factor", "10"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    half = 4.302653 / 3**0.5  # of 1, 2 and 3 points
    assert lines[2][:3] == ["darts", "3", f"+2.0 [{2 - half:+.1f}, {2 + half:+.1f}]"]
    assert lines[2][3:] == [f"-4.0 [{-4 - 2 * half:+.1f}, {-4 + 2 * half:+.1f}]", "+0.0", "+10.0 [-2.4, +22.4]"]
    assert lines[3][5] == ""


def test_recipes_are_paired_by_the_seeds_that_both_have(study, tmp_path, capsys):
    """The other recipe: darts' seeds 1, 2 and 3 only, its rows in another order; no random."""
    table = pd.read_csv(study)
    for group in ("many", "medium", "few"):
        table[f"retrained_{group}"] = 0.3 + 0.1 * table["seed"]
    table.to_csv(tmp_path / "plain.csv", index=False)
    other = table[(table["method"] == "darts") & (table["seed"] > 0)].iloc[::-1].copy()
    other["retrained_top1"] += 0.01 * other["seed"]
    other["retrained_many"] -= 0.02
    other.to_csv(tmp_path / "other.csv", index=False)
    main(["recipes", str(tmp_path / "plain.csv"), str(tmp_path / "other.csv"), "--factor", "10"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    half = 12.706205 * 0.5  # of 1 and 2 points
    assert lines[2:] == [["darts", "2", f"+1.5 [{1.5 - half:+.1f}, {1.5 + half:+.1f}]", *lines[2][3:]]]
    assert lines[2][3].startswith("-2.0") and lines[2][4].startswith("+0.0") and lines[2][5].startswith("+0.0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["worst", "{study}"], "--factor: None; allowed: one of 10, 100"),
        (["worst", "{study}", "--factor", "30"], "--factor: 30; allowed: one of 10, 100"),
        (["worst", "{study}", "{study}", "--factor", "10"], "darts-10-0-0: stands twice"),
        (["worst", "{study}", "--factor", "10", "--method", "bbn"], "method: bbn; allowed: one of darts, random"),
        (["claim", "{study}", "darts = random", "--factor", "10"], "claim: 'darts = random'; allowed"),
        (
            ["claim", "{study}", "darts > random", "--factor", "10", "--seeds", "9"],
            "--seeds: 9; allowed: one of 0, 1, 2",
        ),
        (["power", "missing.csv"], "missing.csv: "),
        (["recipes", "{study}", "missing.csv"], "summary.csv"),
        (["power", "{study}", "--factor", "10", "--column", "top9"], "allowed: a summary.csv"),
    ],
)
def test_a_mistake_is_one_line(study, arguments, said):
    with pytest.raises(SystemExit) as left:
        main([argument.format(study=study) for argument in arguments])
    assert said in str(left.value) and "\n" not in str(left.value)


def test_one_seed_decides_nothing():
    with pytest.raises(UserError, match="seeds: 1 and 3"):
        difference(pd.Series([1.0]), pd.Series([1.0, 2.0, 3.0]))
