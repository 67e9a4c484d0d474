"""The figure shows what the claims' table says."""

import pandas as pd
import pytest

from benchmarks.forest import LIMIT, ahead, figure, main, recipe

LEVELS = {"random": (30.0, 32.0, 31.0), "darts": (31.0, 33.5, 32.0), "bbn": (20.0, 45.0), "pc_darts": (33.0,)}


@pytest.fixture
def file(tmp_path):
    rows = [
        {"run": f"{method}-10-{seed}-0", "method": method, "imbalance_factor": 10, "seed": seed}
        | {"retrained_top1": level / 100, "adapted_top1": level / 100 + 0.1 * (method == "darts")}
        for method, levels in LEVELS.items()
        for seed, level in enumerate(levels)
    ]
    path = tmp_path / "summary.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_differences_are_paired_by_the_seeds_of_both(file):
    found = ahead(recipe(f"plain={file}", None)[1], "random")
    assert set(found) == {"darts", "bbn"}, "one seed has no interval"
    assert found["darts"].mean == pytest.approx(3.5 / 3) and found["darts"].seeds == 3
    assert found["bbn"].mean == pytest.approx(1.5) and found["bbn"].seeds == 2


def test_all_that_is_known_is_drawn_and_no_end_beyond_the_axis(file):
    recipes = dict(recipe(text, None) for text in (f"plain={file}", f"head adapted={file}:adapted_top1"))
    drawn = figure(recipes, "random")
    accuracies, differences = drawn.axes
    assert [label.get_text() for label in accuracies.get_yticklabels()] == list(LEVELS)
    dots = [sorted(line.get_xdata()) for line in accuracies.lines if len(line.get_xdata())]
    for levels in LEVELS.values():
        assert sum(dot == pytest.approx(sorted(levels)) for dot in dots) >= 1
    means = [line.get_xdata()[0] for line in differences.lines if line.get_marker() == "o"]
    assert sorted(means) == pytest.approx(sorted([3.5 / 3, 1.5, 3.5 / 3 + 10, 1.5]))
    ends = [tuple(line.get_xdata()) for line in differences.lines if line.get_linewidth() == 1.6]
    assert (-LIMIT, LIMIT) in ends and all(-LIMIT <= low < high <= LIMIT for low, high in ends)
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["plain", "head adapted"]


def test_the_figure_is_a_file(file, tmp_path):
    main([f"plain={file}", "--output", str(tmp_path / "methods.png")])
    assert (tmp_path / "methods.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("text", "control", "said"),
    [
        ("{file}", "random", "allowed: LABEL=FILE or LABEL=FILE:COLUMN"),
        ("plain={file}:top9", "random", "allowed: a summary.csv"),
        ("plain=missing.csv", "random", "missing.csv: "),
        ("plain={file}", "drnas", "method: drnas; allowed: one of random, darts"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(file, tmp_path, text, control, said):
    with pytest.raises(SystemExit) as left:
        main([text.format(file=file), "--control", control, "--output", str(tmp_path / "methods.png")])
    assert said in str(left.value) and "\n" not in str(left.value)
    assert not (tmp_path / "methods.png").exists()
