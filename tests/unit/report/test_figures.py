import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from tailnas.genotype.primitives import EDGES
from tailnas.report import curves, figures
from tailnas.report.alphas import EDGE_NAMES, alphas_over_time
from tailnas.report.palette import method_style
from tailnas.report.svg import inline_svg, report_style
from tailnas.report.tables import balanced_test, engineering, mean_rows, metric_columns, run_rows


def texts(figure, name="figure"):
    root = ElementTree.fromstring(inline_svg(figure, name, "a description"))
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def by_method(results, factor=30):
    return {method: results.of(method, factor) for method in results.methods}


def test_inline_svg_is_well_formed_text_without_dates_or_shared_ids():
    pictures = []
    for name in ("one", "two"):
        with report_style():
            figure = Figure(figsize=(3, 2))
            axes = figure.subplots()
            axes.plot([1, 2, 3], [3, 1, 2], marker="o", label="a < b & $c$")
            axes.imshow(np.eye(3), interpolation="none")
            axes.legend()
            pictures.append(inline_svg(figure, name, 'of "things"'))
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.get("aria-label") == 'of "things"'
        assert "a < b & $c$" in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "<metadata" not in picture
        assert "font-family" not in picture
        assert "<style" not in picture
    ids = [{element.get("id") for element in ElementTree.fromstring(p).iter() if element.get("id")} for p in pictures]
    assert ids[0] and ids[1]
    assert not ids[0] & ids[1]
    for picture, own in zip(pictures, ids, strict=True):
        used = {part.split('"')[0].split(")")[0] for mark in ('href="#', "url(#") for part in picture.split(mark)[1:]}
        assert used == own


def test_the_users_matplotlib_settings_do_not_show():
    import matplotlib

    def draw():
        with report_style():
            figure = Figure(figsize=(2, 1))
            figure.subplots().plot([1, 2], [1, 2])
            return inline_svg(figure, "same", "same")

    plain = draw()
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert draw() == plain
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_groups_without_attributes_go_and_the_others_stay_closed():
    with report_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1 / 3], clip_on=True)
        picture = inline_svg(figure, "n", "n")
    assert "<g>" not in picture
    assert picture.count("<g ") == picture.count("</g>")


def test_adaptation_figure_has_every_method_and_its_means(make_results):
    results = make_results(seeds=(0, 1))
    with report_style():
        found = texts(figures.adaptation_effect(by_method(results), "top1"))
    for method, runs in by_method(results).items():
        assert method in found
        before, after = (100 * np.mean([run.metrics[m]["few"] for run in runs]) for m in ("retrained", "adapted"))
        assert f"{before:.1f} → {after:.1f}" in found


def test_groups_that_cannot_be_averaged_are_marked(make_results):
    first, second = make_results(methods=("darts",), seeds=(0, 1)).runs
    mixed = [first, replace(second, groups=replace(second.groups, rule="thirds"))]
    with report_style():
        assert texts(figures.adaptation_effect({"darts": mixed}, "top1")).count("not comparable") == 3


@pytest.mark.parametrize("classes", [2, 3, 10, 40])
def test_recall_and_confusion_for_any_number_of_classes(make_results, classes):
    names = tuple(f"class-{index:02d}" for index in range(classes))
    results = make_results(methods=("random",), classes=names)
    run = results.runs[0]
    run.recall["retrained"] = np.where(np.arange(classes) == 0, np.nan, run.recall["retrained"])
    with report_style():
        recall = texts(figures.recall_by_size(by_method(results)))
        confusion = texts(figures.confusion_matrices(by_method(results)))
    assert str(max(run.counts)) in recall
    assert str(min(run.counts)) in recall
    assert ("class-00" in confusion) == (classes <= figures.EACH_CLASS_UP_TO)
    largest = int(np.argmax(run.counts))
    share = 100 * run.confusion["adapted"][largest, largest] / run.confusion["adapted"][largest].sum()
    assert (f"{share:.0f}" in confusion) or classes > figures.ANNOTATE_UP_TO


def test_confusion_pools_seeds_by_rank_of_size(make_results):
    results = make_results(methods=("random",), seeds=(0, 1))
    first, second = results.runs
    assert first.counts != second.counts
    with report_style():
        found = texts(figures.confusion_matrices(by_method(results)))
    assert found.count("124") == 4
    tail = [(run.confusion["adapted"], int(np.argmin(run.counts))) for run in results.runs]
    correct = sum(matrix[c, c] for matrix, c in tail) / sum(matrix[c].sum() for matrix, c in tail)
    assert f"{100 * correct:.0f}" in found


def test_ticks_keep_their_distance_and_both_ends():
    assert figures.spaced(np.array([124.0, 85, 58, 40, 27, 18, 12, 8, 6, 4]), 1.32)[-1] == 4
    ticks = figures.spaced(np.array([100.0, 99, 98, 50, 3, 2.9, 2.8]), 1.32)
    assert ticks == [100, 50, 2.8]
    assert figures.spaced(np.array([7.0, 7.0]), 1.32) == [7]


def test_labels_are_short_and_printable():
    assert figures.label("a" * 30) == "a" * 13 + "…"
    assert figures.label("be\x07ll\n") == "be\ufffdll\ufffd"
    assert figures.label("猫") == "猫"


def test_curves_of_a_study_that_searches_nothing(make_results):
    results = make_results(methods=("random",))
    with report_style():
        assert curves.schedules(results, 30) is None
        assert curves.sweep(results, 30) is None
        assert curves.collapse(results, 30) is None
        assert "Retrain" in texts(curves.losses(results, 30))


def test_schedules_show_each_components_rate_and_branch_losses(make_results):
    results = make_results()
    with report_style():
        found = texts(curves.schedules(results, 30))
        watch = texts(curves.collapse(results, 30))
    for title in (
        "Mixing ratio",
        "Alphas, bbn_hls",
        "Branches, bbn_hls",
        "class head",
        "class branch",
    ):
        assert title in found
    assert "Branches, darts" not in found
    assert "Entropy, class head" in watch
    assert "Movement of the softmax weights" in watch


def test_the_sweep_draws_each_two_branch_searchs_accuracy(make_results):
    with report_style():
        figure = curves.sweep(make_results(seeds=(0, 1)), 30)
    mean = max((line for line in figure.axes[0].lines if len(line.get_xdata())), key=lambda line: line.get_linewidth())
    assert mean.get_xdata()[8] == 0.4 and mean.get_ydata()[8] == pytest.approx(70)
    assert mean.get_ydata()[20] == pytest.approx(100 * (0.7 - 0.36))


def test_curves_draw_the_numbers_of_the_history(make_results):
    results = make_results(methods=("darts",), seeds=(0, 1))
    with report_style():
        figure = curves.losses(results, 30)
    retrain_loss = figure.axes[2]
    drawn = [line.get_ydata() for line in retrain_loss.lines]
    histories = [run.retrain["loss"].to_numpy() for run in results.runs]
    assert drawn[0] == pytest.approx(histories[0])
    assert drawn[1] == pytest.approx(histories[1])
    assert drawn[2] == pytest.approx(np.mean(histories, axis=0))


def test_a_diverged_or_one_epoch_training_is_drawn_with_gaps(make_results):
    results = make_results(methods=("darts",))
    run = results.runs[0]
    loss = run.retrain["loss"].to_numpy().copy()
    loss[-2:] = np.inf, np.nan
    changed = replace(run, retrain=run.retrain.assign(loss=loss), adapt=run.adapt.iloc[:1].assign(loss=np.inf))
    with report_style():
        figure = curves.losses(replace(results, runs=(changed,)), 30)
        texts(figure)
    drawn = figure.axes[2].lines[0].get_ydata()
    assert np.isnan(drawn[-2:]).all()
    assert drawn[:-2] == pytest.approx(loss[:-2])
    assert len(figure.axes[3].lines) == 0


def test_alphas_are_shown_as_softmax_weights_with_the_kept_edges(make_results):
    run = make_results(methods=("darts",)).runs[0]
    with report_style():
        figure = alphas_over_time(run)
        found = texts(figure)
    means, heat, final = figure.axes[:3]
    weights = np.exp(run.alphas["normal"]) / np.exp(run.alphas["normal"]).sum(-1, keepdims=True)
    assert means.lines[3].get_ydata() == pytest.approx(weights[:, :, 3].mean(axis=1))
    assert heat.images[0].get_array().shape == (8 * EDGES, len(weights))
    assert np.asarray(final.images[0].get_array()) == pytest.approx(weights[-1])
    kept = {(EDGE_NAMES[int(y)], int(x)) for x, y in zip(*final.lines[0].get_data(), strict=True)}
    assert len(kept) == 8
    assert all(weights[-1][EDGE_NAMES.index(edge), primitive] > 1 / 8 for edge, primitive in kept)
    assert {"Normal cell", "Reduction cell", "skip", "dil conv 5×5", "k−2 → 1", "3 → 4"} <= set(found)


def test_methods_differ_in_style():
    assert len({method_style(position) for position in range(24)}) == 24


def test_result_rows_compare_adapted_with_retrained(make_results):
    results = make_results(methods=("darts",), seeds=(0, 1))
    assert balanced_test(results)
    assert metric_columns(results) == ("top1", "macro_f1", "many", "medium", "few", "ece")
    row = run_rows(results, 30)[1]
    run = results.runs[1]
    few, ece = row.pairs[4], row.pairs[5]
    assert (row.name, row.seed) == ("darts", "1")
    assert few.retrained == f"{100 * run.metrics['retrained']['few']:.1f}"
    assert few.adapted == f"{100 * run.metrics['adapted']['few']:.1f}"
    assert few.trend == "up better"
    assert ece.trend == "down better"
    assert row.pairs[2].trend == "down worse"
    values = [100 * run.metrics["adapted"]["top1"] for run in results.runs]
    assert mean_rows(results, 30)[0].pairs[0].adapted == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def test_balanced_accuracy_leads_where_the_test_set_is_uneven(make_tree):
    tree = make_tree(methods=("random",))
    path = tree.run("random") / "evaluate/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["adapted"]["balanced_accuracy"] = 0.4321
    path.write_text(json.dumps(metrics))
    assert metric_columns(tree.read())[:2] == ("balanced_accuracy", "top1")
    html = tree.build()["index.html"].decode()
    assert re.search(r'<div class="card">.*?→ 43\.2 %</b><span>balanced accuracy,', html)
    assert re.search(r"<text[^>]*>Balanced accuracy</text>", html)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (12_345, "12.3 k"),
        (999_600, "1 M"),
        (31.9e9, "31.9 G"),
        (2.5e15, "2.5 P"),
        (4e21, "4e+03 E"),
    ],
)
def test_large_numbers_have_units(value, text):
    assert engineering(value) == text
