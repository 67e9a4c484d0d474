"""The first sentence of the page, from numbers that are put in."""

from dataclasses import replace

import numpy as np
import pytest

from tailnas.report.answer import answers
from tailnas.report.statistics import spread


def with_scores(results, scores):
    """`results` in which each method has these values by seed, in every accuracy of the adapted network."""
    runs = []
    for run in results.runs:
        value = scores[run.method][results.seeds.index(run.seed)]
        adapted = {**run.metrics["adapted"], **dict.fromkeys(("balanced_accuracy", "many", "medium", "few"), value)}
        runs.append(replace(run, metrics={**run.metrics, "adapted": adapted}))
    return replace(results, runs=tuple(runs))


@pytest.fixture
def six_seeds(make_results):
    return make_results(methods=("darts", "random"), seeds=range(6))


def test_a_method_that_is_always_ahead_is_better(six_seeds):
    ahead = np.array([0.02, 0.03, 0.01, 0.04, 0.02, 0.03])
    (answer,) = answers(with_scores(six_seeds, {"darts": 0.6 + ahead, "random": [0.6] * 6}))
    low, high = (100 * end for end in (spread(ahead).low, spread(ahead).high))
    assert answer.startswith(
        f"darts is better than random by 2.5 points of balanced accuracy (95 % interval [+{low:.1f}, +{high:.1f}]) "
        "after head adaptation (6 seeds, sign-flip p = 0.031): "
    )
    assert f"+2.5 [+{low:.1f}, +{high:.1f}] on few-shot classes" in answer


def test_a_lead_that_luck_can_make_is_not_shown(six_seeds):
    (answer,) = answers(with_scores(six_seeds, {"darts": [0.6, 0.7, 0.5, 0.6, 0.7, 0.6], "random": [0.6] * 6}))
    assert answer.startswith("No method is shown to be better than random; the best, darts, is ahead by 1.7 points")
    (answer,) = answers(with_scores(six_seeds, {"darts": [0.5] * 6, "random": [0.6] * 6}))
    assert answer.startswith("No method does better than random in this study")


def test_one_seed_ranks_nothing(make_results):
    results = make_results(methods=("darts", "random"))
    (answer,) = answers(results)
    assert answer.startswith("No method can be called better than another: there is one seed.")
    best = max(results.runs, key=lambda run: run.metrics["adapted"]["balanced_accuracy"])
    index = int(np.argmin(best.recall["adapted"]))
    low, high = best.recall_intervals("adapted")[:, index]
    assert f"{best.name} finds {100 * best.recall['adapted'][index]:.1f} % of its test images" in answer
    assert answer.endswith(f"[{100 * low:.0f}, {100 * high:.0f}].")
