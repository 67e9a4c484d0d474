"""Stages begun and ended by clients of one loaded DVC: on this machine by a socket, elsewhere by files."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from bridge import mailbox
from bridge.client import ADDRESS
from bridge.interior import RUN
from bridge.keeper import Keeper
from bridge.mailbox import Conversation, Mailbox
from bridge.plan import Job
from tests.unit.dvc_project import Project

DVC_YAML = """
stages:
  one: {cmd: ["echo $$ > pid", "test ! -e hang || sleep 60", echo 1 > one.txt], outs: [one.txt]}
  two: {cmd: "cat one.txt one.txt > two.txt", deps: [one.txt], outs: [two.txt]}
"""
KEEP = """
import sys
from bridge.interior import Pipeline
from bridge.keeper import Keeper
pipeline = Pipeline()
keeper = Keeper(pipeline, {job.name: job for job in pipeline.jobs()}, remote=sys.argv[1] == "remote")
print("ready", flush=True)
sys.stdin.read()
keeper.close()
"""


def client(project: Project, stage: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bridge.client", stage],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("where", ["local", "remote"])
def test_clients_run_stages_once_and_a_killed_one_is_followed_by_another(tmp_path, where):
    project = Project(tmp_path / "project").create({"dvc.yaml": DVC_YAML, "hang": ""})
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEP, where],
        cwd=project.root,
        env=project.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert keeper.stdout and keeper.stdin and keeper.stdout.readline() == b"ready\n"
    killed = client(project, "one")
    wait_for((project.root / "pid").exists)
    killed.kill()
    (project.root / "hang").unlink()
    again = client(project, "one")
    assert again.communicate(timeout=60)[0].startswith("> echo") and again.returncode == 0
    assert client(project, "one").communicate(timeout=60)[0] == "one: up to date\n"
    assert client(project, "two").wait(60) == 0
    keeper.stdin.close()
    assert keeper.wait(60) == 0
    orphan = client(project, "two")
    assert orphan.communicate(timeout=60)[0].startswith("two: no engine keeps this pipeline") and orphan.returncode == 1
    assert project.is_clean() and not list((project.root / ".dvc" / "tmp").glob("bridge*"))


def test_only_the_last_to_begin_a_stage_ends_it(tmp_path, monkeypatch):
    """A job that was given up may still be at work on another machine."""
    calls = []
    pipeline = SimpleNamespace(
        begin=lambda name, force: calls.append(f"begin {name}") or RUN,
        end=lambda name: calls.append(f"end {name}"),
        drop=lambda name: calls.append(f"drop {name}"),
        flush=lambda: None,
        close=lambda: None,
    )
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    keeper = Keeper(pipeline, {"one": Job("one", [], ".", [], {}, done=False)}, remote=True)
    folder = json.loads(ADDRESS.read_text())["folder"]
    old, new = Conversation(folder), Conversation(folder)
    for conversation in (old, new):
        assert conversation.ask({"do": "begin", "stage": "one"})["found"] == RUN
    assert "another job has begun it since" in old.ask({"do": "end", "stage": "one"})["error"]
    assert new.ask({"do": "end", "stage": "one"}) == {"found": "recorded"}
    keeper.close()
    assert calls == ["begin one", "drop one", "begin one", "end one"]


def test_files_carry_a_conversation(tmp_path, monkeypatch):
    monkeypatch.setattr(mailbox, "BEAT", 0.04)
    box = Mailbox(tmp_path / "box", lambda request, whose: {"twice": 2 * request["number"], "whose": whose})
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o700
    answers = {}

    def talk(number: int) -> None:
        conversation = Conversation(str(tmp_path / "box"))
        answers[number] = [conversation.ask({"number": n}) for n in (number, number + 1)]
        conversation.close()

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (first, second) in answers.items():
        assert (first["twice"], second["twice"]) == (2 * number, 2 * number + 2) and first["whose"] == second["whose"]
    assert len({first["whose"] for first, _ in answers.values()}) == 8
    box.close()
    with pytest.raises(EOFError):
        Conversation(str(tmp_path / "box")).ask({"number": 1})


def test_a_side_that_falls_silent_counts_as_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(mailbox, "BEAT", 0.02)
    monkeypatch.setattr(mailbox, "SILENCE", 0.2)
    (tmp_path / "alive").write_text("17")
    conversation = Conversation(str(tmp_path))
    began = time.monotonic()
    with pytest.raises(EOFError):
        conversation.ask({"number": 1})
    assert time.monotonic() - began > 0.2


def test_what_a_job_loads_does_not_plan():
    """On a cluster every job starts so: neither DVC nor torch."""
    code = (
        "import sys, bridge.client, workflow.jobs, workflow.card; sys.exit(bool({'dvc', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
