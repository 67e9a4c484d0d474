from dataclasses import replace

from tailnas.report.comparisons import compare_methods
from tailnas.report.findings.chapters import chapters
from tailnas.report.findings.finding import p_text, percent, points
from tailnas.report.findings.heads import adaptation_findings
from tailnas.report.findings.limits import limit_findings
from tailnas.report.findings.methods import method_findings
from tailnas.report.findings.searches import search_findings
from tailnas.report.statistics import sign_flip_test, smallest_detectable_difference, spread


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


def test_a_clear_gain_is_told_with_its_size(make_results):
    findings = adaptation_findings(with_values(make_results(), adapted(0.62, 0.84)), 30)
    text = findings[0].text
    assert "Recall on few-shot classes rose from 40.0 % to 62.0 % (+22.0 points, higher in 3 of 3 runs)" in text
    assert "Recall on many-shot classes fell from 95.0 % to 90.0 % (−5.0 points, higher in 0 of 3 runs)" in text
    # 250 test images: 1.96 sqrt((0.4 0.6 + 0.62 0.38) / 250) = 8.5 points
    assert findings[1].kind == "shown"
    assert "larger than the choice of test images alone can make (about ±8.5 points)" in findings[1].text
    assert "did not pay" in findings[1].text


def test_a_gain_that_costs_accuracy_says_so(make_results):
    findings = adaptation_findings(with_values(make_results(), adapted(0.62, 0.77)), 30)
    assert "Overall accuracy paid for it (−3.0 points of top-1)." in findings[1].text


def test_a_small_change_is_left_open(make_results):
    findings = adaptation_findings(with_values(make_results(), adapted(0.43, 0.80)), 30)
    assert findings[1].kind == "open"
    assert "does not show whether adaptation helps" in findings[1].text
    assert "Top-1 accuracy stayed at 80.0 %" in findings[0].text


def test_a_loss_is_told_as_a_loss(make_results):
    findings = adaptation_findings(with_values(make_results(), adapted(0.20, 0.75)), 30)
    assert "Recall on few-shot classes fell from 40.0 % to 20.0 % (−20.0 points" in findings[0].text
    assert findings[1].kind == "shown"
    assert "Few-shot classes got worse" in findings[1].text


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


def test_adaptation_over_seeds_has_an_interval(make_results):
    results = make_results(methods=("darts",), seeds=(0, 1, 2))
    steady = with_values(results, lambda run: [("retrained", "few", 0.4), ("adapted", "few", 0.5 + 0.01 * run.seed)])
    last = adaptation_findings(steady, 30)[-1]
    assert last.kind == "shown"
    # 11 points, sd 1: the interval is 11 -+ 4.3027 / sqrt(3)
    assert (
        "Over 3 seeds few-shot recall changed by +11.0 points (95 % interval +8.5 to +13.5, sign-flip p = 0.250)."
        in last.text
    )
    unsteady = with_values(
        results, lambda run: [("retrained", "few", 0.4), ("adapted", "few", 0.4 + 0.2 * (run.seed - 0.9))]
    )
    last = adaptation_findings(unsteady, 30)[-1]
    assert last.kind == "open"
    assert "includes no change" in last.text


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
    (still,) = search_findings(results.runs)
    assert still.kind == "warning"
    assert "darts-30-0 (0.00" in still.text
    assert "bbn_hls" not in still.text
    for run in results.runs:
        if run.method == "bbn_hls":
            run.search.loc[run.search.index[-1], "skip_share"] = 0.75
    collapsed = search_findings(results.runs)[-1]
    assert collapsed.kind == "warning"
    assert "bbn_hls-30-0 (75.0 %)" in collapsed.text


def test_searches_that_moved_are_told_so(make_results):
    results = make_results()
    (moved,) = search_findings(results.runs)
    assert moved.kind == "shown"
    least = min(run.search["softmax_movement"].iloc[-1] for run in results.runs if run.searched)
    assert f"by {least:.3f} or more" in moved.text
    assert "Nothing was searched" in search_findings(results.of("random"))[0].text


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
    assert "no few-shot groups in common" in findings[-1].text
    assert "few-shot classes rose" not in findings[0].text


def test_chapters_say_the_same_thing_once(make_results):
    found = chapters(make_results(seeds=(0, 1), imbalance_factors=(30, 10)))
    assert found[0].title == "What head adaptation did"
    assert all(chapter.findings for chapter in found)
    texts = [finding.text for finding in found[1].findings]
    assert len(texts) == len(set(texts))
    assert sum("too few for the exact test" in text for text in texts) == 1
    assert sum(text.startswith("Imbalance factor 10: ") for text in texts) == 2
