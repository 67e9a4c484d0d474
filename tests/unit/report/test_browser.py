"""The page in a real browser: no error, no request (the page's own policy makes one an error), nothing that axe finds.

Needs Chromium, `npm install --global axe-core` and, for the printed page, pdftotext.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WIDTHS = (520, 820, 1280)
CHECK = """
document.querySelectorAll("details").forEach((one) => (one.open = true));
document.querySelectorAll("table.sortable th button").forEach((button) => button.click());
axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }).then((found) => {
  const told = found.violations.map((one) => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)]);
  const { scrollWidth } = document.documentElement;
  const wide = scrollWidth > innerWidth ? [["wide", scrollWidth]] : [];
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify([...told, ...wide]);
  document.body.append(result);
});
"""


@cache
def tools():
    """Chromium and the text of axe, or a skipped test."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("how a browser lays the page out cannot be seen without one: install Debian's chromium")
    npm = shutil.which("npm")
    found = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=False) if npm else None
    axe = Path(found.stdout.strip(), "axe-core/axe.min.js") if found else Path("none")
    if not axe.is_file():
        pytest.skip("accessibility is judged by axe-core's rules, which are not here: npm install --global axe-core")
    return browser, axe.read_text(encoding="utf-8")


def chromium(profile, page, *options):
    """What Chromium prints, without its own messages."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    more = (f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=60000")
    command = [tools()[0], *flags, *more, *options, page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.parametrize(
    "study",
    [
        {},
        {"seeds": (0, 1), "imbalance_factors": (30, 10), "methods": ("darts", "random")},
        {"seeds": (0, 1), "retrain_seeds": (0, 1)},
    ],
    ids=["one seed", "two factors", "retrainings"],
)
def test_axe_finds_nothing_at_any_width_in_light_and_dark(make_tree, tmp_path, study):
    _, axe = tools()
    tree = make_tree(**study)
    html = tree.build()["index.html"].decode()
    _, errors = chromium(tmp_path / "profile", tree.root / "report/index.html", "--dump-dom")
    assert errors == []
    probed = tmp_path / "probed.html"
    probed.write_text(
        re.sub(r"<meta http-equiv[^>]*>", "", html).replace(
            "</body>", f"<script>{axe}</script><script>{CHECK}</script></body>"
        )
    )
    for width in WIDTHS:
        for dark in (0, 1):
            look = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
            size = f"--window-size={width},900"
            dom, errors = chromium(tmp_path / "profile", probed, "--dump-dom", size, look)
            assert errors == []
            found = re.search(r'<pre id="found">(.*?)</pre>', dom, flags=re.S)
            assert json.loads(found[1]) == [], (width, dark)


def test_the_printed_page_keeps_every_column_and_opens_what_is_closed(make_tree, tmp_path):
    if not shutil.which("pdftotext"):
        pytest.skip(
            "what printing loses is seen in the PDF's text, which takes pdftotext: install Debian's poppler-utils"
        )
    tree = make_tree(seeds=(0, 1), imbalance_factors=(30, 10), methods=("darts", "random"))
    tree.build()
    pdf = tmp_path / "page.pdf"
    chromium(tmp_path / "profile", tree.root / "report/index.html", f"--print-to-pdf={pdf}")
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    for heading, times in (("Search", 2), ("Detectable", 2), ("Verdict", 2), ("Reduction cell", 8)):
        assert text.count(heading) >= times, heading
    cut = subprocess.run(["pdftotext", "-bbox", pdf, "-"], capture_output=True, text=True, check=True).stdout
    pages = re.findall(r'<page width="([\d.]+)".*?</page>', cut, flags=re.S)
    right = [float(x) for x in re.findall(r'xMax="([\d.]+)"', cut)]
    assert max(right) <= float(pages[0])
