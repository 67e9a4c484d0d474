import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from tailnas.errors import UserError
from tailnas.evaluation.report import build_report

FILES = {
    "index.html",
    "summary.csv",
    "comparisons.csv",
    "metrics.json",
    "plots/search.csv",
    "plots/per_class.csv",
    "plots/confusion.csv",
}
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
        if not self.open or self.open[-1] not in ("style",):
            self.text.append(data)


def build(study, name="report"):
    output = study.root / name
    output.mkdir()
    build_report(*study.arguments, output)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_report_of_the_default_study(make_study):
    study = make_study()
    for part in ("test_images.npy", "test_labels.npy"):
        (study.root / "data/raw/digits" / part).unlink()  # the report must not need them
    files = build(study)
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
    assert "script" not in {tag for tag, _ in page.tags}
    assert "link" not in {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:image/png;base64,"))
    outside = set(re.findall(r"https?://[^\s\"']+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in html and "url(http" not in html

    run = json.loads((study.run("bbn_hls") / "evaluate/metrics.json").read_text())
    for model in ("retrained", "adapted"):
        assert f"{100 * run[model]['few']:.1f}" in page.text
    assert f"{run['parameters']:,}" in page.text
    for phrase in (
        "3 methods × 1 imbalance factor × 1 seed = 3 runs",
        "What this study can and cannot tell apart",
        "no method can be ranked",
        "no interval",
        "bbn_hls-if30-seed0",
        "Normal cell",
        "Reduction cell",
        "Instance head",
        "Class head",
        "Mixing ratio",
        "Movement of the softmax weights",
        "Nothing was searched: there are no alphas.",
    ):
        assert phrase in text
    assert sum(tag == "img" for tag, _ in page.tags) == 10
    assert len(html) < 1_000_000

    summary = pd.read_csv(study.root / "report/summary.csv")
    assert summary["run"].tolist() == ["darts-if30-seed0", "bbn_hls-if30-seed0", "random-if30-seed0"]
    metrics = json.loads(files["metrics.json"])
    assert metrics["bbn_hls-if30"]["adapted"]["few"] == pytest.approx(run["adapted"]["few"], abs=1e-6)
    assert not re.search(rb"20[0-9]{2}-[01][0-9]-[0-3][0-9]", b"".join(files.values()))


def test_report_of_several_seeds_and_factors(make_study):
    study = make_study(seeds=(0, 1), imbalance_factors=(30, 10), methods=("darts", "random"), still=("darts",))
    html = build(study)["index.html"].decode()
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
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_run_that_is_no_longer_in_the_study_leaves_the_report(make_study):
    study = make_study(methods=("random", "m2"), seeds=(0, 1))

    class Smaller:
        methods, imbalance_factors, seeds = ["random"], [30], [1]

    results, raw, splits, _ = study.arguments
    output = study.root / "smaller"
    build_report(results, raw, splits, Smaller(), output)
    html = (output / "index.html").read_text()
    assert "random-if30-seed1" in html
    assert "seed0" not in html
    assert "m2" not in Page(html).text
    assert pd.read_csv(output / "summary.csv")["run"].tolist() == ["random-if30-seed1"]


def test_names_of_the_users_classes_are_text_everywhere(make_study):
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
    html = build(make_study(classes=names, methods=("random",)))["index.html"].decode()
    page = Page(html)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    for name in ("<script>x()</script>", "{{ 7 * 7 }}", "$\\frac{1}$", "a & b", "猫", "n" * 60):
        assert name in page.text


BUILD = """
import sys
from pathlib import Path
from tailnas.evaluation.report import build_report
class Study:
    methods, imbalance_factors, seeds = ["darts"], [30], [0]
root = Path(sys.argv[1])
build_report(root / "results", root / "data/raw/digits", root / "data/splits", Study(), root / "again")
"""


def test_another_process_writes_the_same_bytes(make_study, tmp_path_factory):
    study = make_study(methods=("darts",))
    files = build(study)
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
    subprocess.run([sys.executable, "-c", BUILD, str(study.root)], check=True, cwd=elsewhere, env=environment)
    again = study.root / "again"
    for name, content in files.items():
        assert (again / name).read_bytes() == content, name


def test_classes_of_another_data_set_are_refused_before_anything_is_written(make_study):
    study = make_study(methods=("random",))
    path = study.root / "data/raw/digits/meta.json"
    meta = json.loads(path.read_text())
    meta["classes"][0] = "zero"
    path.write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"counts\.csv: its 10 classes are not the 10 of .*meta\.json"):
        build_report(*study.arguments, study.root / "report")
    assert not (study.root / "report").exists()


def test_a_missing_input_is_named_before_anything_is_written(make_study):
    study = make_study(methods=("random",))
    (study.run("random") / "evaluate/per_class.csv").unlink()
    with pytest.raises(UserError, match=r"random-if30-seed0/evaluate/per_class\.csv: no such file"):
        build_report(*study.arguments, study.root / "report")
    assert not (study.root / "report").exists()
