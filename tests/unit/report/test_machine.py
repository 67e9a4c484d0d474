"""Seconds, memory and hardware stand in a page beside the outputs, and in none of them."""

import json

import psutil
import pytest

from tailnas.foundation.machine import hardware, peak_memory
from tailnas.report.machine import write_page
from tailnas.report.show import main


@pytest.fixture
def project(make_tree, monkeypatch):
    tree = make_tree(methods=("darts", "random"))
    tree.build("results/report")
    monkeypatch.chdir(tree.root)
    return tree.root


def note(root, stage, run, seconds, memory):
    folder = root / "logs" / stage / run
    folder.mkdir(parents=True)
    facts = {"seconds": seconds, "memory_mib": memory, "processor": "a <fast> one", "device": "cpu", "threads": 1}
    (folder / "run.json").write_text(json.dumps(facts | {"python": "3.11.2", "versions": {"torch": "2.11.0"}}))


def test_the_page_has_what_the_logs_say_beside_what_is_counted(project, capsys):
    report = project / "results/report"
    before = (report / "index.html").read_bytes()
    assert write_page(report) is None  # nothing was noted yet
    note(project, "search", "darts-30-0", 12.34, 400)
    note(project, "retrain", "darts-30-0-0", 1234.5, 1500)
    note(project, "search", "bbn-30-0", 9999, 9999)  # of another study
    (project / "params.yaml").write_text("a: <b>\n")
    main([str(report)])
    page = (project / "logs/report/index.html").read_text()
    told = page[page.index('id="machine"') :]
    cells = "</td><td>".join(["–", "12.3", "1,234.5", "–", "–", "1,500"])
    assert f"<td>{cells}</td></tr>" in told
    assert "9,999" not in told and "a &lt;fast&gt; one" in told and "a: &lt;b&gt;" in told
    assert page.count('href="#machine"') == 1
    assert (report / "index.html").read_bytes() == before
    assert capsys.readouterr().out.endswith("with seconds, memory and hardware: logs/report/index.html\n")


def test_a_process_knows_its_memory_and_processor():
    taken = peak_memory()["memory_mib"]
    given_back = taken * 2**20 - psutil.Process().memory_info().rss
    block = bytearray(max(0, given_back) + 64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert taken + 32 < peak_memory()["memory_mib"] < 100_000
    assert hardware()["processor"]
