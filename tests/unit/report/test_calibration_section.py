"""The calibration section: means over runs of what metrics.json says, and what is not there."""

import json
import re

import pytest

from tailnas.foundation.errors import UserError
from tailnas.report.calibration import SHOWN_COVERAGES, calibration_rows


def rewrite(tree, change, **run):
    path = tree.run("random", **run) / "evaluate/metrics.json"
    metrics = json.loads(path.read_text())
    change(metrics["calibration"])
    path.write_text(json.dumps(metrics))


def test_numbers_are_means_over_a_methods_runs(make_tree):
    tree = make_tree(methods=("random",), seeds=(0, 1))
    stored = [json.loads((tree.run("random", seed=s) / "evaluate/metrics.json").read_text()) for s in (0, 1)]
    first, second = (one["calibration"] for one in stored)
    (row,) = calibration_rows({"random": tree.read().of("random")})
    assert row.temperature == pytest.approx(1.3)
    assert [title for title, _, _ in row.errors] == [
        "ECE", "ECE by chance", "Adaptive ECE", "Brier score", "ECE, many-shot", "ECE, medium-shot", "ECE, few-shot",
    ]  # fmt: skip
    chance = [(first[time]["ece_by_chance"] + second[time]["ece_by_chance"]) / 2 for time in ("before", "after")]
    assert row.errors[1][1:] == pytest.approx(chance)
    assert row.errors[3][1:] == pytest.approx(
        [(first[time]["brier"] + second[time]["brier"]) / 2 for time in ("before", "after")]
    )
    few = [
        (first[time]["groups"]["few"]["ece"] + second[time]["groups"]["few"]["ece"]) / 2 for time in ("before", "after")
    ]
    assert row.errors[6][1:] == pytest.approx(few)
    assert row.errors[0][1] == pytest.approx(sum(one["adapted"]["ece"] for one in stored) / 2)
    assert row.kept[0] == pytest.approx(1 - sum(one["adapted"]["top1"] for one in stored) / 2)
    assert row.kept == sorted(row.kept, reverse=True) and len(row.kept) == len(SHOWN_COVERAGES)
    assert row.priors[1][1].as_it_is == pytest.approx(1 - row.kept[0])
    rare = {name for s in (0, 1) for name, n in zip(*classes_of(tree, s), strict=True) if n < 9}
    assert set(row.unsure.split(", ")) == rare


def classes_of(tree, seed):
    (run,) = tree.read().of("random", seed=seed)
    return run.classes, run.counts


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_page_says_what_there_is(make_tree, calibrated):
    tree = make_tree(methods=("random",))
    if not calibrated:
        rewrite(tree, lambda found: found.update(sets=None, temperature=1.0))
    page = tree.build()["index.html"].decode()
    section = re.search(r'<section id="calibration">.*?</section>', page, re.DOTALL)[0]
    assert ("each judged by a network that had not seen it" in section) == calibrated
    assert ("calibrate.networks: 0" in section) != calibrated
    assert section.count("<caption>") == 3 and '<a href="#calibration">' in page


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"priors": {"forward": 1}}, {"before": None}])
def test_damage_is_one_line(make_tree, change):
    tree = make_tree(methods=("random",))
    rewrite(tree, lambda found: found.update(change))
    with pytest.raises(UserError, match=r"metrics\.json: calibration\.\w+.*; allowed: "):
        tree.read()
