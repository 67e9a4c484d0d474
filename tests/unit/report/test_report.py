import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import Study
from tailnas.report.findings.finding import points

FILES = {
    "index.html",
    "summary.csv",
    "comparisons.csv",
    "variance.csv",
    "metrics.json",
    "plots/search.csv",
    "plots/per_class.csv",
    "plots/confusion.csv",
}
PER_CLASS = 9
"""Columns of the table of a run's classes."""
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with attributes, text of each, and whether every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def test_report_of_the_default_study(make_tree):
    tree = make_tree()
    for part in ("test_images.npy", "test_labels.npy"):
        (tree.root / "data/raw/digits" / part).unlink()  # the report must not need them
    files = tree.build()
    assert set(files) == FILES
    html = files["index.html"].decode()
    page = Page(html)
    assert page.open == []
    text = " ".join(" ".join(page.text).split())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(links) >= 8
    assert {link.removeprefix("#") for link in links} <= set(ids)
    (script,) = [attributes for tag, attributes in page.tags if tag == "script"]
    assert script == {}
    assert "link" not in {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:image/png;base64,"))
    outside = set(re.findall(r"https?://[^\s\"']+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in html and "url(http" not in html

    run = json.loads((tree.run("bbn_hls") / "evaluate/metrics.json").read_text())
    for model in ("retrained", "adapted"):
        assert f"{100 * run[model]['few']:.1f}" in page.text
    assert f"{run['parameters']:,}" in page.text
    for phrase in (
        "3 methods × 1 imbalance factor × 1 seed = 3 runs",
        "What this study can and cannot tell apart",
        "no method can be ranked",
        "no interval",
        "bbn_hls-30-0-0",
        "Normal cell",
        "Reduction cell",
        "Instance head",
        "Class head",
        "Mixing ratio",
        "Movement of the softmax weights",
        "Nothing was searched: there are no alphas.",
    ):
        assert phrase in text
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 10 + 3 * (3 * 8 + 10) and all(pictures)
    assert len(html) < 1_000_000

    summary = pd.read_csv(tree.root / "report/summary.csv")
    assert summary["run"].tolist() == ["darts-30-0-0", "bbn_hls-30-0-0", "random-30-0-0"]
    metrics = json.loads(files["metrics.json"])
    assert metrics["bbn_hls-if30"]["adapted"]["few"] == pytest.approx(run["adapted"]["few"], abs=1e-6)
    assert not re.search(rb"20[0-9]{2}-[01][0-9]-[0-3][0-9]", b"".join(files.values()))


def test_report_of_several_seeds_and_factors(make_tree):
    tree = make_tree(seeds=(0, 1), imbalance_factors=(30, 10), methods=("darts", "random"), still=("darts",))
    html = tree.build()["index.html"].decode()
    page = Page(html)
    assert page.open == []
    text = " ".join(" ".join(page.text).split())
    for phrase in (
        "2 methods × 2 imbalance factors × 2 seeds = 8 runs",
        "Mean ± standard deviation over 2 seeds",
        "Imbalance factor 10",
        "2 seeds are too few for the exact test",
        "initialisation noise",
        "95 % interval",
    ):
        assert phrase in text
    can_be_read_by_ear(page)
    drawn = html[html.index("<svg") : html.rindex("</svg>")]
    for colour in ("#1f2933", "#ffffff"):  # ink and paper of every drawing follow the page from light to dark
        assert drawn.count(colour) == drawn.count(f",{colour})") > 10
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def can_be_read_by_ear(page):
    """Headings without jumps; every table has a caption and every heading cell a scope; every picture is described."""
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 8
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert drawings and all(attributes.get("role") == "img" for attributes in drawings)


def test_report_of_several_retrainings(make_tree):
    """Spread between searches and between retrainings in page and table; one cell and one curve for each search."""
    tree = make_tree(seeds=(0, 1), retrain_seeds=(0, 1), methods=("darts", "random"))
    files = tree.build()
    page = Page(files["index.html"].decode())
    text = " ".join(" ".join(page.text).split())
    for phrase in (
        "2 methods × 1 imbalance factor × 2 seeds × 2 retrainings = 8 runs",
        "Mean ± standard deviation over 2 seeds, each the mean of 2 retrainings",
        "Searches against retrainings",
        "between retrainings of one genotype",
    ):
        assert phrase in text
    table = pd.read_csv(tree.root / "report/variance.csv")
    assert table["method"].tolist() == ["all", "darts", "random"] * 4
    summary = pd.read_csv(tree.root / "report/summary.csv")
    own = summary.query("method == 'darts'")
    within = own.groupby("seed")["adapted_top1"].var(ddof=1).mean() ** 0.5
    row = table.query("method == 'darts' and metric == 'top1' and model == 'adapted'").iloc[0]
    assert row["sd_within"] == pytest.approx(100 * within) and (row["searches"], row["retrainings"]) == (2, 2)
    assert len(pd.read_csv(tree.root / "report/plots/search.csv")) == 2 * 12
    assert sum(tag == "title" or "Alphas of" in str(attributes) for tag, attributes in page.tags) >= 2
    no_number_averages_over_methods(page.text, summary)


def test_report_of_data_that_keeps_its_own_factor(make_tree):
    tree = make_tree(methods=("random",), imbalance_factors=("natural",))
    files = tree.build()
    text = " ".join(" ".join(Page(files["index.html"].decode()).text).split())
    assert "imbalance factor 118 (the data's own)" in text and "Imbalance factor natural" not in text
    assert pd.read_csv(tree.root / "report/summary.csv")["measured_factor"].tolist() == [118.0]


def no_number_averages_over_methods(text, summary):
    shown = text[text.index("Results", 30) : text.index("What this study can and cannot tell apart")]
    for method, own in summary.groupby("method"):
        position = shown.index(method)
        before, after = (f"{100 * own[f'{model}_top1'].mean():.1f}" for model in ("retrained", "adapted"))
        assert f"{before} → {after} %" in shown[position : position + 3]


def test_a_run_that_is_no_longer_in_the_study_leaves_the_report(make_tree):
    tree = make_tree(methods=("random", "imb_nas"), seeds=(0, 1))
    study = Study(methods=["random"], imbalance_factors=[30], seeds=[1], retrain_seeds=[0])
    html = tree.build(study=study)["index.html"].decode()
    assert "random-30-1" in html
    assert "seed0" not in html
    assert "imb_nas" not in html
    assert pd.read_csv(tree.root / "report/summary.csv")["run"].tolist() == ["random-30-1-0"]


def test_every_class_stands_in_the_page_from_head_to_tail(make_tree):
    tree = make_tree(methods=("random",))
    (run,) = tree.read().runs
    order = sorted(range(10), key=lambda index: -run.counts[index])
    text = Page(tree.build()["index.html"].decode()).text
    shows_what_the_networks_said(run, text)
    rows = text[text.index("Change, points") + 1 :]
    rows = [word for word in rows if word.strip()][: 10 * PER_CLASS]
    assert rows[0::PER_CLASS] == [run.classes[index] for index in order]
    assert rows[1::PER_CLASS] == ["many"] + ["medium"] * 4 + ["few"] * 5
    assert rows[2::PER_CLASS] == ["124", "85", "58", "40", "27", "18", "12", "8", "6", "4"]
    assert set(rows[3::PER_CLASS]) == {"50"}
    assert rows[4::PER_CLASS] == [f"{100 * run.recall['retrained'][index]:.1f}" for index in order]
    assert rows[7::PER_CLASS] == [
        f"{100 * low:.1f} to {100 * high:.1f}" for low, high in run.recall_intervals("adapted").T[order]
    ]
    assert rows[8::PER_CLASS] == [
        points(run.recall["adapted"][index] - run.recall["retrained"][index]) for index in order
    ]


def shows_what_the_networks_said(run, text):
    shown = text[text.index("Most confident mistakes") :]
    mistakes = run.examples.query("kind == 'mistake'")
    assert (mistakes["adapted"] != mistakes["label"]).all()
    assert mistakes["adapted_probability"].is_monotonic_decreasing
    first = mistakes.iloc[0]
    assert f"✗ {run.classes[first['adapted']]} {100 * first['adapted_probability']:.1f} %" in shown[:10]
    rare = run.examples.query("kind == 'rare'")["label"].drop_duplicates().tolist()
    assert rare == sorted(range(10), key=lambda index: run.counts[index])[:3]


def test_a_comparison_stands_in_the_page_with_its_interval_and_p_values(make_tree):
    tree = make_tree(methods=("imb_nas", "random"), seeds=(0, 1, 2))
    text = Page(tree.build()["index.html"].decode()).text
    row = pd.read_csv(tree.root / "report/comparisons.csv").iloc[0]
    start = text.index("Verdict") + text[text.index("Verdict") :].index("imb_nas")
    assert text[start : start + 10] == [
        *("imb_nas", "random", "Top-1", "retrained", points(row["difference"] / 100)),
        f"{points(row['low'] / 100)} to {points(row['high'] / 100)}",
        *(f"{row['p']:.3f}", f"{row['p_holm']:.3f}", f"{row['detectable']:.1f}", "undecided"),
    ]


def test_what_was_not_measured_is_a_dash(make_tree):
    tree = make_tree(methods=("random",))
    path = tree.run("random") / "evaluate/confusion.csv"
    path.write_text(re.sub(r"(?m)^(\w+),0,(\d),\d+$", r"\1,0,\2,0", path.read_text()))
    path = path.with_name("per_class.csv")
    path.write_text(re.sub(r"(?m)^0,\d+,\d+$", "0,0,0", path.read_text()))
    text = Page(tree.build()["index.html"].decode()).text
    start = text.index("0", text.index("Change, points"))
    assert text[start + 3 : start + 9] == ["0", *["–"] * 5]


def test_names_of_the_users_classes_are_text_everywhere(make_tree):
    names = (
        "<script>x()</script>",
        "</svg>",
        "{{ 7 * 7 }}",
        "$\\frac{1}$",
        "a & b",
        "'\"",
        "\x07",
        "猫",
        "%s",
        "n" * 60,
    )
    html = make_tree(classes=names, methods=("random",)).build()["index.html"].decode()
    page = Page(html)
    assert page.open == []
    assert [tag for tag, _ in page.tags].count("script") == 1
    for name in ("<script>x()</script>", "{{ 7 * 7 }}", "$\\frac{1}$", "a & b", "猫", "n" * 60):
        assert name in page.text


BUILD = """
import sys
from pathlib import Path
from tailnas.foundation.settings import Study
from tailnas.report.page import build_report
root = Path(sys.argv[1])
study = Study(methods=["darts"], imbalance_factors=[30], seeds=[0], retrain_seeds=[0])
build_report(root / "results", root / "data/raw/digits", root / "data/splits", study, root / "again")
"""


def test_another_process_writes_the_same_bytes(make_tree, tmp_path_factory):
    tree = make_tree(methods=("darts",))
    files = tree.build()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "matplotlibrc").write_text("lines.linewidth: 7\nsvg.hashsalt: other\nfont.size: 20\n")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "TZ": "Pacific/Auckland",
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "1000000000",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([sys.executable, "-c", BUILD, str(tree.root)], check=True, cwd=elsewhere, env=environment)
    for name, content in files.items():
        assert (tree.root / "again" / name).read_bytes() == content, name


def test_classes_of_another_data_set_are_refused_before_anything_is_written(make_tree):
    tree = make_tree(methods=("random",))
    path = tree.root / "data/raw/digits/meta.json"
    path.write_text(path.read_text().replace('"0"', '"zero"'))
    with pytest.raises(UserError, match=r"counts\.csv: its 10 classes are not the 10 of .*meta\.json"):
        tree.build()
    assert not (tree.root / "report").exists()


def test_a_missing_input_is_named_before_anything_is_written(make_tree):
    tree = make_tree(methods=("random",))
    (tree.run("random") / "evaluate/confusion.csv").unlink()
    with pytest.raises(UserError, match=r"random-30-0-0/evaluate/confusion\.csv: .*No such file"):
        tree.build()
    assert not (tree.root / "report").exists()
