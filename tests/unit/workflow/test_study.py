"""`make study`: cards are divided, a failing run stops what needs it alone, progress and summary say what is."""

from __future__ import annotations

import io
import json
import sys
import time
from itertools import pairwise

import pytest

from bridge.plan import Job
from bridge.schedule import Progress
from tests.unit.dvc_project import Project
from workflow.study import Line, earlier_seconds, estimate, plan_text, spoken, summary

DVC_YAML = """
stages:
  search:
    matrix: {seed: [0, 1, 2, 3, 4, 5]}
    cmd: python one.py ${item.seed} search-${item.seed}.json
    deps: [one.py]
    outs: ["search-${item.seed}.json"]
    meta: {gpu: 1}
  test:
    matrix: {seed: [0, 1, 2, 3, 4, 5]}
    cmd: cp search-${item.seed}.json test-${item.seed}.json
    deps: ["search-${item.seed}.json"]
    outs: ["test-${item.seed}.json"]
"""
ONE = """
import json, os, sys, time
seed, path = sys.argv[1:]
if seed == "3" and not os.path.exists("mended"):
    print("params.yaml: seed: 3; allowed: another")
    sys.exit(1)
print("searched")
began = time.time()
time.sleep(0.15)
json.dump([os.environ.get("CUDA_VISIBLE_DEVICES"), began, time.time()], open(path, "w"))
"""
RUN = """
import sys
from bridge.interior import Pipeline
from workflow.session import Session
from workflow.study import compute, plan_text, summary
session = Session(Pipeline(), [], {"device": sys.argv[1], "threads": 1})
session.jobs = session.pipeline.jobs()
print(plan_text(session.jobs, 16))
progress = compute(session, int(sys.argv[2]), verbose="verbose" in sys.argv)
print(*progress.done)
print(summary(progress, 1.0))
session.close()
"""


@pytest.mark.parametrize(
    ("device", "listed", "cards"),
    [("auto", "GPU-a,GPU-b", {"GPU-a", "GPU-b"}), ("cuda:1", "0,1", {"0,1"})],
)
def test_a_study_of_runs_one_of_which_fails(tmp_path, device, listed, cards):
    project = Project(tmp_path / "project").create({"dvc.yaml": DVC_YAML, "one.py": ONE})
    project.environment["CUDA_VISIBLE_DEVICES"] = listed
    said = project.run(sys.executable, "-c", RUN, device, "16")
    assert "12 of 12 stages to compute: 6 search, 6 test; time unknown" in said
    assert "search@3: params.yaml: seed: 3; allowed: another\n" in said
    assert "10 computed, 1 failed, 1 not begun, since they need a failed one, in 1 s" in said
    assert "10 done, 1 failed, 0 running, 0 left" in said and "Traceback" not in said
    assert set(json.loads(project.run("dvc", "status", "--json"))) == {"search@3", "test@3"}
    found = [json.loads(file.read_text()) for file in sorted(project.root.glob("test-*.json"))]
    assert {card for card, _, _ in found} == cards and len(found) == 5
    for card in cards:
        spans = sorted((began, ended) for own, began, ended in found if own == card)
        assert all(first[1] <= second[0] for first, second in pairwise(spans)), "two stages on one card"

    (project.root / "mended").touch()
    assert "2 of 12 stages to compute" in (said := project.run(sys.executable, "-c", RUN, device, "16", "verbose"))
    assert "2 computed, in 1 s" in said and project.is_clean()
    assert "\n> python one.py 3 search-3.json\nsearched\n" in said, "what stages print is passed on"


def test_a_run_is_finished_before_another_is_begun(tmp_path):
    project = Project(tmp_path / "project").create({"dvc.yaml": DVC_YAML, "one.py": ONE, "mended": ""})
    said = project.run(sys.executable, "-c", RUN, "cpu", "1")
    assert " ".join(f"search@{seed} test@{seed}" for seed in range(6)) in said


def jobs(count: int) -> list[Job]:
    return [Job(f"search@{k}", ["true"], ".", [], {}, done=False) for k in range(count)]


def test_one_line_of_progress(monkeypatch):
    """Off a terminal a line for each tenth; on one, the same line over and over."""
    for terminal in (False, True):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stderr", stream)
        moment = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda moment=moment: moment[0])
        line = Line(jobs(40), cores=2)
        progress = Progress(waiting=40)
        for k in range(40):
            progress.waiting -= 1
            progress.running = {f"search@{k}": 0.0}
            moment[0] += 10
            line(progress)
            progress.running = {}
            progress.ran[f"search@{k}"] = 30.0
            progress.done.append(f"search@{k}")
        line(progress)
        line.end()
        shown = [text for text in stream.getvalue().replace("\r", "\n").split("\n") if text]
        assert len(shown) == (41 if terminal else 11)
        assert shown[0].startswith("0 done, 1 running, 39 left, time left unknown")
        assert shown[5].startswith(f"{5 if terminal else 20} done, 1 running, ")
        assert ("about 9 min left" if terminal else "about 5 min left") in shown[5]
        assert shown[-1].startswith("40 done, 0 running, 0 left, about 0 s left")
        assert stream.getvalue().count("\n") == (1 if terminal else 11)


def test_estimates_and_words():
    todo = [*jobs(3), Job("report", ["true"], ".", [], {}, done=False)]
    assert estimate(todo, {"search": 10.0, "report": 2.0}, 2) == 16.0
    assert estimate(todo, {"search": 10.0}, 1) == 40.0  # the rest counts like what is known
    assert estimate(todo, {"report": 2.0}, 1) is None and estimate([], {}, 1) == 0.0
    assert [spoken(seconds) for seconds in (None, 7.4, 600, 7200)] == ["unknown time", "7 s", "10 min", "2.0 h"]
    done = [Job("search@0", ["true"], ".", [], {}, done=True)]
    assert plan_text(done, 2) == "1 stages, all up to date"


def test_a_summary_of_many_failures_is_short():
    progress = Progress(failed={f"search@{k}": "dvc: no" for k in range(14)}, done=["a", "b"], ran={"a": 1.0})
    lines = summary(progress, 5).splitlines()
    assert len(lines) == 12 and lines[10] == "and 4 more, in logs/study"
    assert lines[11] == "1 computed, 1 restored from the cache, 14 failed, in 5 s"


@pytest.mark.parametrize("cut", ["", "{", "[]", "{}", '{"seconds": null}', "\0"])
def test_a_note_that_a_kill_has_cut_counts_as_none(tmp_path, monkeypatch, cut):
    monkeypatch.chdir(tmp_path)
    for name, text in {"split/a": cut, "search/a": cut, "search/b": json.dumps({"seconds": 3})}.items():
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / "run.json").write_text(text)
    assert earlier_seconds() == {"search": 3.0}
