from dataclasses import replace

import numpy as np
import pytest

from tailnas.data.repeated import Repeated
from tailnas.report.comparisons import compare_methods
from tailnas.report.findings.chapters import chapters
from tailnas.report.findings.finding import p_text, percent, points
from tailnas.report.findings.heads import adaptation_findings
from tailnas.report.findings.limits import limit_findings, repeated_findings
from tailnas.report.findings.methods import method_findings
from tailnas.report.findings.searches import search_findings
from tailnas.report.statistics import paired_interval, sign_flip_test, smallest_detectable_difference, spread


def with_values(results, values):
    """`values(run)` gives (model, metric, value) triples that replace the run's own."""

    def changed(run):
        metrics = {model: dict(own) for model, own in run.metrics.items()}
        for model, metric, value in values(run):
            metrics[model][metric] = value
        return replace(run, metrics=metrics)

    return replace(results, runs=tuple(changed(run) for run in results.runs))


def adapted(few, top1, many=0.9):
    return lambda run: [
        ("retrained", "few", 0.40),
        ("adapted", "few", few),
        ("retrained", "top1", 0.80),
        ("adapted", "top1", top1),
        ("retrained", "many", 0.95),
        ("adapted", "many", many),
    ]


def text_of(findings):
    return " ".join(finding.text for finding in findings)


def test_numbers_as_readers_see_them():
    assert percent(0.12345) == "12.3 %"
    assert [points(value) for value in (0.0123, -0.0251, 0.0001, -0.0001)] == ["+1.2", "−2.5", "0.0", "0.0"]
    assert [p_text(value) for value in (0.0625, 0.0004, 1.0)] == ["= 0.062", "< 0.001", "= 1.000"]


def changed_images(results, gained, lost=0):
    """Each run's few-shot classes with `gained` images put right and `lost` put wrong, all in the first class."""

    def changed(run):
        few = [0] * len(run.counts)
        up, down = list(few), list(few)
        up[run.groups.few[0]], down[run.groups.few[0]] = gained, lost
        return replace(run, gained=np.array(up), lost=np.array(down))

    return replace(results, runs=tuple(changed(run) for run in results.runs))


def test_changes_are_told_by_method_and_never_averaged(make_results):
    all_methods = make_results()
    darts = replace(all_methods, methods=("darts",), runs=tuple(all_methods.of("darts")))
    one = adaptation_findings(with_values(darts, adapted(0.62, 0.80)), 30)[0].text
    assert "Recall on few-shot classes rose from 40.0 % to 62.0 % (+22.0 points)." in one
    assert "Recall on many-shot classes fell from 95.0 % to 90.0 % (−5.0 points)." in one
    assert "Top-1 accuracy stayed at 80.0 %." in one
    gain = {"darts": 0.43, "bbn_hls": 0.62, "random": 0.50}
    results = with_values(all_methods, lambda run: adapted(gain[run.method], 0.80)(run))
    text = adaptation_findings(results, 30)[0].text
    assert "Recall on few-shot classes changed by +3.0 (darts) to +22.0 points (bbn_hls)." in text
    assert "Top-1 accuracy stayed where it was with every method." in text


@pytest.mark.parametrize(
    ("gained", "lost", "kind", "said"),
    [
        (3, 0, "open", "least p before correction = 0.250, 3 images gained and 0 lost): it does not show whether"),
        (
            20,
            2,
            "shown",
            "the gain on few-shot classes is larger than the choice of test images can make in the one run",
        ),
        (
            2,
            20,
            "shown",
            "the loss on few-shot classes is larger than the choice of test images can make in the one run",
        ),
        (12, 10, "open", "the change on few-shot classes is within what the choice of test images can make"),
    ],
)
def test_few_images_that_changed_show_nothing(make_results, gained, lost, kind, said):
    """Three of ten images gained and none lost, from 0 %: exact McNemar p = 0.25; a Wald interval has no width."""
    results = changed_images(make_results(methods=("darts",)), gained, lost)
    finding = adaptation_findings(results, 30)[1]
    assert finding.kind == kind and said in finding.text
    if kind == "shown":
        low, high = paired_interval(gained, lost, 250)
        step = points((gained - lost) / 250)
        assert (
            f"darts-30-0-0 ({step} points of recall over its images, {points(low)} to {points(high)})" in finding.text
        )


def test_runs_are_tested_one_by_one_and_corrected(make_results):
    """6 gained and none lost is p = 0.031 in one run, and 0.094 after Holm over three."""
    three = make_results()
    one = replace(three, methods=("darts",), runs=tuple(three.of("darts")))
    assert adaptation_findings(changed_images(one, 6), 30)[1].kind == "shown"
    assert adaptation_findings(changed_images(three, 6), 30)[1].kind == "open"
    finding = adaptation_findings(changed_images(three, 12), 30)[1]
    assert finding.kind == "shown" and "in 3 of 3 runs: darts-30-0-0 (" in finding.text


def test_one_seed_has_no_interval_and_no_ranking(make_results):
    results = make_results()
    assert "No interval" in adaptation_findings(results, 30)[-1].text
    (finding,) = method_findings(results, 30)
    assert finding.kind == "open"
    assert "no method can be ranked" in finding.text
    top1 = {run.method: run.metrics["adapted"]["top1"] for run in results.runs}
    low, high = min(top1, key=top1.get), max(top1, key=top1.get)
    assert f"spans {100 * top1[low]:.1f} % ({low}) to {100 * top1[high]:.1f} % ({high})" in finding.text
    for row in compare_methods(results, 30):
        assert (row.difference.low, row.p_value, row.adjusted_p, row.detectable) == (None, None, None, None)
        assert not row.told_apart


def test_adaptation_over_seeds_is_shown_by_the_exact_test_alone(make_results):
    """Three seeds cannot reach 5 %, however clear the interval; eight of one sign can, also where all are alike."""

    def few(change):
        return lambda run: [("retrained", "few", 0.4), ("adapted", "few", 0.4 + change(run.seed))]

    eight = make_results(methods=("darts",), seeds=tuple(range(8)))
    results = replace(eight, seeds=(0, 1, 2), runs=eight.runs[:3])
    last = adaptation_findings(with_values(results, few(lambda seed: 0.10 + 0.01 * seed)), 30)[-1]
    # 11 points, sd 1: the interval is 11 -+ 4.3027 / sqrt(3)
    assert "darts +11.0 [+8.5, +13.5], p = 0.250. 3 seeds are too few for this exact test" in last.text
    assert last.kind == "open"
    alike = adaptation_findings(with_values(results, few(lambda seed: 0.3)), 30)[-1]
    assert alike.kind == "open" and "darts +30.0 [alike in all seeds: no interval], p = 0.250" in alike.text
    alike = adaptation_findings(with_values(eight, few(lambda seed: 0.3)), 30)[-1]
    assert alike.kind == "shown" and "This shows a change for darts." in alike.text
    mixed = adaptation_findings(with_values(eight, few(lambda seed: 0.2 * (seed - 3.4))), 30)[-1]
    assert mixed.kind == "open" and "None of them is shown" in mixed.text


def test_a_large_steady_difference_is_told_apart_and_a_small_one_is_not(make_results):
    results = make_results(methods=("darts", "random", "bbn_hls"), seeds=tuple(range(8)))
    gain = {"darts": 0.0, "random": 0.0, "bbn_hls": 0.08}

    def values(run):
        noise = 0.004 * (-1) ** (run.seed + len(run.method))
        value = 0.7 + gain[run.method] + noise
        return [(model, metric, value) for model in ("retrained", "adapted") for metric in ("top1", "few")]

    changed = with_values(results, values)
    rows = compare_methods(changed, 30)
    assert len(rows) == 2 * 2 * (2 + 2)
    apart = {(row.method, row.baseline) for row in rows if row.told_apart}
    assert apart == {("bbn_hls", "darts"), ("bbn_hls", "random")}
    first = method_findings(changed, 30)[0]
    assert first.kind == "shown"
    assert "8 of 16 comparisons" in first.text
    assert "bbn_hls against darts, top-1 adapted (+8.0 points, Holm p = 0.016)" in first.text


def test_comparisons_pair_the_seeds(make_results):
    results = make_results(methods=("darts", "random"), seeds=(0, 1, 2))
    (row,) = [r for r in compare_methods(results, 30) if (r.metric, r.model, r.method) == ("few", "adapted", "random")]
    values = {m: [run.metrics["adapted"]["few"] for run in results.of(m)] for m in ("darts", "random")}
    differences = tuple(a - b for a, b in zip(values["random"], values["darts"], strict=True))
    assert row.difference == spread(differences)
    assert row.p_value == row.adjusted_p == sign_flip_test(differences)
    assert row.detectable == smallest_detectable_difference(row.difference.sd, 3)


def test_too_few_seeds_for_the_exact_test_is_said(make_results):
    findings = method_findings(make_results(seeds=(0, 1, 2, 3, 4)), 30)
    assert "none of 16 comparisons" in findings[0].text
    assert "seeds are too few for the exact test to reach 5 %" in findings[-1].text
    assert "least p is 0.0625, 0.125 after Holm over 2 methods. 7 seeds are enough" in findings[-1].text
    assert "four times out of five" in findings[1].text


def test_a_study_without_baseline_or_with_one_method_compares_nothing(make_results):
    both = make_results(methods=("bbn_hls", "imb_nas"), seeds=(0, 1))
    one = replace(both, methods=("bbn_hls",), runs=tuple(both.of("bbn_hls")))
    assert "nothing to compare" in method_findings(one, 30)[0].text
    assert "neither darts nor random is in the study" in method_findings(both, 30)[0].text


def test_a_search_that_stood_still_or_collapsed_is_a_warning(make_results):
    results = make_results(still=("darts",))
    still = search_findings(results)[0]
    assert still.kind == "warning"
    assert "darts-30-0 (0.00" in still.text
    assert "bbn_hls" not in still.text
    for run in results.runs:
        if run.method == "bbn_hls":
            run.search.loc[run.search.index[-1], "skip_share"] = 0.75
    collapsed = search_findings(results)[1]
    assert collapsed.kind == "warning"
    assert "bbn_hls-30-0 (75.0 %)" in collapsed.text


def test_searches_that_moved_are_told_so(make_results):
    results = make_results()
    moved, steps = search_findings(results)
    assert steps.text == (
        "What the searches were given at imbalance factor 30: darts 288 steps and 13,824 images, bbn_hls 288 steps and "
        "13,824 images. In each step bbn_hls sees two batches, one for each branch: twice the images of one branch."
    )
    assert moved.kind == "shown"
    least = min(run.search["softmax_movement"].iloc[-1] for run in results.runs if run.searched)
    assert f"by {least:.3f} or more" in moved.text
    assert "Nothing was searched" in search_findings(replace(results, runs=tuple(results.of("random"))))[0].text


def test_a_super_network_at_chance_is_a_warning_where_a_search_starts_from_it(make_results):
    results = make_results(methods=("darts", "random"), seeds=(0, 1))
    assert not [finding for finding in search_findings(results) if "guessing" in finding.text]
    history = results.pretrain[1].history
    history.loc[history.index[-1], "balanced_accuracy"] = 0.035
    warning = search_findings(results)[0]
    assert warning.kind == "warning"
    assert "super-network that darts start from knows no more" in warning.text
    assert "3.5 % in seed 1 (guessing reaches 6.0 %)" in warning.text and "seed 0" not in warning.text
    alone = replace(results, runs=tuple(results.of("random")))
    assert not [finding for finding in search_findings(alone) if "guessing" in finding.text]


def test_repeated_images_are_a_warning_where_they_cross():
    within = Repeated(images=5, across_parts=0, across_classes=0)
    assert repeated_findings(within) == []
    (finding,) = repeated_findings(Repeated(images=26, across_parts=10, across_classes=1))
    assert finding.kind == "warning" and "26 image(s) stand there more than once, 10 of them in both" in finding.text


def test_limits_name_missing_controls_sizes_and_thirds(make_results):
    results = make_results(methods=("darts", "bbn_hls"))
    assert "`random` is not in the study" in text_of(limit_findings(results))
    runs = (
        replace(results.runs[0], parameters=30_000),
        replace(results.runs[1], parameters=20_000, groups=replace(results.runs[1].groups, rule="thirds")),
    )
    text = text_of(limit_findings(replace(results, runs=runs)))
    assert "20,000 to 30,000 parameters, 2 of 2 more than 10 %" in text
    assert "thirds of the classes" in text
    equal = tuple(replace(run, parameters=20_000) for run in results.runs)
    assert "parameters" not in text_of(limit_findings(replace(results, runs=equal)))


def test_groups_under_different_rules_get_no_verdict(make_results):
    results = make_results(methods=("darts",), seeds=(0, 1))
    first, second = results.runs
    mixed = replace(results, runs=(first, replace(second, groups=replace(second.groups, rule="thirds"))))
    findings = adaptation_findings(mixed, 30)
    assert "have few-shot groups in common" in findings[-1].text
    assert "few-shot classes" not in findings[0].text


def test_chapters_say_the_same_thing_once(make_results):
    none = Repeated(images=0, across_parts=0, across_classes=0)
    found = chapters(make_results(seeds=(0, 1), imbalance_factors=(30, 10)), none)
    assert found[0].title == "What head adaptation did"
    assert all(chapter.findings for chapter in found)
    texts = [finding.text for finding in found[1].findings]
    assert len(texts) == len(set(texts))
    assert sum("too few for the exact test" in text for text in texts) == 1
    assert sum(text.startswith("Imbalance factor 10: ") for text in texts) == 2
