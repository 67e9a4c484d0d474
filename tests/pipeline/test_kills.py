"""kill -9 in the middle of a stage, then the same command again at once: as if nothing had happened."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter

import psutil
import pytest

from .project import PATIENCE, wait_until

COMMANDS = {"dvc": ["dvc", "repro"], "snakemake": ["snakemake", "--cores", "2"]}
OUTPUTS = {
    "pretrain": "results/pretrain/seed0",
    "search": "results/runs/bbn_hls-10-0/search",
    "retrain": "results/runs/bbn_hls-10-0-0/retrain",
}
EVERY = [
    (engine, victim, stage)
    for engine, victims in {
        "dvc": ("dvc", "script", "process group"),
        "snakemake": ("snakemake", "client", "script", "process group"),
    }.items()
    for victim in victims
    for stage in OUTPUTS
]
QUICK = {
    ("snakemake", "snakemake", "pretrain"),
    ("dvc", "dvc", "search"),
    ("snakemake", "process group", "retrain"),
}


@pytest.mark.parametrize(
    ("engine", "victim", "stage"),
    [pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow], id="-".join(case)) for case in EVERY],
)
def test_a_kill_leaves_no_trace(computed_by, tmp_path, engine, victim, stage):
    project = computed_by(engine)
    before = project.outputs()
    project.forget(OUTPUTS[stage])
    checkpoints = project.root / ".tailnas" / "checkpoints"
    logs = [tmp_path / "killed.log", tmp_path / "again.log"]

    first = project.start(COMMANDS[engine], logs[0])
    wait_until(lambda: list(checkpoints.glob(f"{stage}-*.pt")), first, f"a checkpoint of {stage}", logs[0])
    script = stage_process(first.pid, stage)
    survives = victim == engine == "dvc"  # Snakemake's stages end with it
    if survives:
        script.suspend()  # so that it cannot end before the second command finds it at work
    kill(victim, engine, first, script, stage)
    first.wait(PATIENCE)
    if not survives:
        wait_until(lambda: not is_alive(script), None, "the end of the script", logs[0])
    assert is_alive(script) == survives and first.returncode != 0
    assert not (project.root / OUTPUTS[stage]).exists(), "the kill came too late"

    second = project.start(COMMANDS[engine], logs[1])
    if survives:
        wait_until(lambda: "waiting for" in logs[1].read_text(), second, "a word of waiting", logs[1])
        script.resume()
    assert second.wait(2 * PATIENCE) == 0, logs[1].read_text()[-6000:]

    assert not is_alive(script)
    assert project.outputs() == before
    assert project.leftovers() == []
    assert not list(checkpoints.glob("*"))
    assert project.is_clean() if engine == "dvc" else project.planned() == set()
    if victim == "client":
        return  # Snakemake went on with the other stages
    said = "".join(log.read_text() for log in logs)
    epochs = Counter(re.findall(rf"{stage} [\w.-]+ epoch (\d+)/\d+", said))
    assert set(epochs.values()) == {1}, f"an epoch was computed twice: {epochs}"
    if not survives:
        assert re.search(rf"^{stage} [\w.-]+: going on after epoch [1-9]", logs[1].read_text(), flags=re.MULTILINE)


def stage_process(ancestor: int, stage: str) -> psutil.Process:
    """The process of the stage's script itself, not of a shell that waits for it."""
    (found,) = [
        process
        for process in psutil.Process(ancestor).children(recursive=True)
        if process.cmdline()[1:3] == ["-m", f"stages.{stage}"]
    ]
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; where nobody reaps orphans, a dead one stays as a zombie."""
    try:
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def kill(victim: str, engine: str, first, script: psutil.Process, stage: str) -> None:
    """kill -9 of the engine, of a stage under Snakemake, of the script alone, or of everything."""
    if victim == "process group":
        os.killpg(first.pid, signal.SIGKILL)
    elif victim == engine:
        os.kill(first.pid, signal.SIGKILL)
    elif victim == "script":
        script.kill()
    else:
        family = [(process, process.cmdline()) for process in psutil.Process(first.pid).children(recursive=True)]
        (client,) = [
            process
            for process, words in family
            if words[1:3] == ["-m", "bridge.client"] and words[3].partition("@")[0] == stage
        ]
        client.kill()
