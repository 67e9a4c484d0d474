"""When alphas move: rows from finished searches, shares of the path, and the comparison of two methods."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from benchmarks import settling
from tailnas.genotype.found import FOUND, write_alphas
from tailnas.search.sweep import RATIOS

EPOCHS = 8


def walk(steps):
    """Alphas (epochs + 1, 14, 8) of which one weight moves by `steps` of the softmax, the others alike."""
    first = 1 / 8 + np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.repeat(((1 - first) / 7)[:, None], 8, axis=1)
    weights[:, 0] = first
    return np.log(weights)[:, None].repeat(14, axis=1).astype(np.float32)


def write(runs, name, steps, *, two_branches=False):
    folder = runs / name / "search"
    (folder / FOUND).mkdir(parents=True)
    components = {"normal": walk(steps), "reduce": walk(steps[::-1]), "instance_head": walk(steps)}
    if two_branches:
        components["class_head"] = walk(steps)
    write_alphas(folder / FOUND, components)
    if two_branches:
        ratios = np.linspace(0, 1, RATIOS)
        pd.DataFrame({"mixing_ratio": ratios, "balanced_accuracy": ratios / 2}).to_csv(folder / "mixing_ratio.csv")


@pytest.fixture
def runs(tmp_path):
    even, late = [0.05] * EPOCHS, [0.01] * 6 + [0.03] * 2
    for seed in (0, 1):
        write(tmp_path / "runs", f"darts-100-{seed}", late)
        write(tmp_path / "runs", f"bbn_hls-100-{seed}", even, two_branches=True)
    (tmp_path / "runs" / "random-100-0" / "search" / FOUND).mkdir(parents=True)
    return tmp_path / "runs"


def test_an_even_walk_has_a_quarter_of_its_path_in_each_quarter(runs):
    shares = settling.shares(settling.alphas_table(runs)).set_index(["method", "seed", "component"])
    even = shares.loc[("bbn_hls", "0", "normal")]
    assert even["first"] == pytest.approx(0.25, abs=1e-3) and even["last"] == pytest.approx(0.25, abs=1e-3)
    late = shares.loc[("darts", "1", "normal")]
    assert late["first"] == pytest.approx(2 / 12, abs=1e-3) and late["last"] == pytest.approx(6 / 12, abs=1e-3)
    assert shares.loc[("darts", "1", "reduce"), "first"] == pytest.approx(6 / 12, abs=1e-3)
    # one weight by 0.4, seven by a seventh of it, and eight weights in the mean
    assert even["travel"] == pytest.approx(0.8 / 8, abs=1e-4)


def test_an_epoch_that_straddles_two_quarters_counts_by_its_parts():
    table = pd.DataFrame(
        [["a", "1", "0", "normal", epoch, step, 0.0, 0.0] for epoch, step in enumerate((4.0, 2.0), start=1)],
        columns=[*settling.SEARCH, "component", "epoch", "step", "travel", "entropy"],
    )
    assert settling.shares(table)[["first", "last"]].to_numpy().tolist() == [
        [pytest.approx(1 / 3), pytest.approx(1 / 6)]
    ]


def test_what_never_moved_has_no_shares(tmp_path, capsys):
    write(tmp_path / "runs", "darts-100-0", [0.0] * EPOCHS)
    settling.main([str(tmp_path / "runs"), "--output", str(tmp_path / "out")])
    assert "| darts  | normal        | 1     | 0.000  |                             |" in capsys.readouterr().out


def test_imbalance_factors_are_not_mixed(runs, tmp_path, capsys):
    write(runs, "darts-10-0", [0.05] * EPOCHS)
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match="--factor: None; allowed: one of 100, 10"):
        settling.main([str(runs), "--output", str(output)])
    assert not output.exists()
    settling.main([str(runs), "--output", str(output), "--factor", "10"])
    said = capsys.readouterr().out
    assert "| darts  | normal        | 1     | 0.100  | 25 " in said and "bbn_hls" not in said
    settling.main(["--table", str(output / "alphas.csv"), "--factor", "100"])
    assert "| darts   | normal        | 2     | 0.030 " in capsys.readouterr().out


def test_entropy_and_travel_are_those_of_the_softmax(runs):
    rows = settling.alphas_table(runs)
    row = rows[(rows["method"] == "darts") & (rows["component"] == "normal") & (rows["epoch"] == 3)].iloc[0]
    weights = softmax(walk([0.01] * 6 + [0.03] * 2)[3, 0].astype(np.float64))
    assert row["entropy"] == pytest.approx(-(weights * np.log(weights)).sum(), abs=1e-5)
    assert row["step"] == pytest.approx(0.02 / 8, abs=1e-5) and row["travel"] == pytest.approx(0.06 / 8, abs=1e-5)


def test_the_command_writes_rows_and_a_figure_and_prints_them_again(runs, tmp_path, capsys):
    output = tmp_path / "out"
    settling.main([str(runs), "--output", str(output)])
    said = capsys.readouterr().out
    assert "| bbn_hls | normal        | 2     | 0.100 +- 0.000 | 25 +- 0" in said
    assert (output / "settling.png").stat().st_size > 10_000
    assert len(pd.read_csv(output / "alphas.csv")) == (2 * 3 + 2 * 4) * EPOCHS
    assert len(pd.read_csv(output / "mixing.csv")) == 2 * RATIOS
    settling.main(["--table", str(output / "alphas.csv")])
    assert capsys.readouterr().out == said
    settling.main(["--table", str(output / "alphas.csv"), "--less", "darts", "bbn_hls"])
    said = capsys.readouterr().out
    assert "| normal        | 2     | -8 " in said and "class head" not in said
    settling.main(["--mixing", str(output / "mixing.csv")])
    said = capsys.readouterr().out
    assert "| bbn_hls | 0.75         | 2     | 37.5 +- 0.0         | +12.5 " in said
    assert "| bbn_hls | 0.5          | 2     | 25.0 +- 0.0         |  " in said
    file = tmp_path / "few.csv"
    pd.read_csv(output / "mixing.csv").query("mixing_ratio < 1").to_csv(file, index=False)
    with pytest.raises(SystemExit, match="mixing ratio: 1 of bbn_hls is missing"):
        settling.main(["--mixing", str(file)])


def test_what_a_user_gets_wrong_is_one_line(runs, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SystemExit, match=r"empty: no search with alphas; allowed: results/runs"):
        settling.main([str(empty), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    settling.main([str(runs), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="--less: darts random; allowed: two methods"):
        settling.main(["--table", str(tmp_path / "out" / "alphas.csv"), "--less", "darts", "random"])
    with pytest.raises(SystemExit, match=r"none\.csv"):
        settling.main(["--table", str(tmp_path / "none.csv")])
    with pytest.raises(SystemExit):
        settling.main([])
    assert "allowed: a folder of runs and --output, or --table, or --mixing" in capsys.readouterr().err
