"""A study on a real Slurm: `make test-slurm`."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from .conftest import STUDY
from .project import PATIENCE, Project, wait_until
from .slurm import Slurm, why_not

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3600)]

TWELVE = {
    **STUDY,
    "study.methods": ["bbn_hls", "random", "darts"],
    "study.seeds": [0, 1],
    "study.retrain_seeds": [0, 1],
    "search.training.epochs": 2,
    "pretrain.training.epochs": 2,
    "retrain.training.epochs": 2,
}
COMMAND = ["snakemake", "--profile", "profiles/slurm", "--slurm-keep-successful-logs"]
COMMAND += ["--slurm-init-seconds-before-status-checks", "3"]


@pytest.fixture(scope="module")
def slurm():
    if reason := why_not():
        pytest.skip(f"how jobs go through a real Slurm cannot be seen without one, and none can be started: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    started = Slurm(folder)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture
def project(slurm, tmp_path):
    """A function that makes a fresh project whose commands find this Slurm."""
    made = []

    def make(**changes) -> Project:
        own = Project.create(tmp_path / f"project{len(made)}", **changes)
        own.environment |= slurm.environment
        own.environment["PATH"] = f"{slurm.folder}/bin:{own.environment['PATH']}"
        made.append(own)
        return own

    yield make
    for own in made:
        own.end_processes()


def seconds(job, start="StartTime", end="EndTime"):
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job[start])).total_seconds()


def test_twelve_runs_are_computed_by_jobs_alone_with_the_bytes_of_this_machine(slurm, project, tmp_path, capsys):
    here, there = project(**TWELVE), project(**TWELVE)
    here.run("python", "-m", "workflow.study", "--cores", "2")
    log = tmp_path / "slurm.log"
    process = there.start(COMMAND, log)
    assert process.wait(3000) == 0, log.read_text()[-6000:]

    assert there.outputs() == here.outputs()
    assert (there.root / "dvc.lock").read_bytes() == (here.root / "dvc.lock").read_bytes()
    assert there.is_clean() and there.leftovers() == []
    assert len(list((there.root / "results" / "runs").glob("*/evaluate"))) == 12

    jobs = [job for job in slurm.jobs() if job["WorkDir"] == str(there.root)]
    assert Counter(job["JobState"] for job in jobs) == {"COMPLETED": 2 + 2 + 2 + 6 + 12 + 1}
    texts = [Path(job["StdOut"]).read_text() for job in jobs]
    stages = {path.stem for path in (there.root / "logs" / "snakemake").glob("*.log")}
    ran = Counter(
        stage
        for text in texts
        for stage in set(re.findall(r"^    ?\s*log: logs/snakemake/(.+)\.log", text, re.MULTILINE))
    )
    assert set(ran.values()) == {1} and set(ran) == stages and len(stages) == 2 + 2 + 2 + 2 * 6 + 4 * 12 + 1
    with capsys.disabled():
        print("\njob  CPUs  MB     limit       waited  ran  stages")
        for job, text in zip(jobs, texts, strict=True):
            names = dict.fromkeys(re.findall(r"^    ?\s*log: logs/snakemake/(.+)\.log", text, re.MULTILINE))
            memory = re.search(r"mem=(\w+)", job["TRES"])
            print(
                f"{job['JobId']:>3}  {job['NumCPUs']:>4}  {memory[1] if memory else '':>6} {job['TimeLimit']:>10}  "
                f"{seconds(job, 'SubmitTime', 'StartTime'):>5.0f}  {seconds(job):>4.0f}  {', '.join(names)}"
            )


LONG = {**STUDY, "study.methods": ["random"], "retrain.training.epochs": 60}


@pytest.mark.parametrize("end", ["scancel", "time limit"])
def test_a_job_that_is_ended_is_submitted_again_and_goes_on_after_its_last_epoch(slurm, project, tmp_path, end):
    here, there = project(**LONG), project(**LONG)
    here.run("python", "-m", "workflow.study", "--cores", "2")
    log = tmp_path / "slurm.log"
    limit = ["--set-resources", "retrain_random_10_0_0:runtime=2", "adapt_random_10_0_0:runtime=0"]
    limit += ["calibrate_random_10_0_0:runtime=0", "evaluate_random_10_0_0:runtime=0"]
    process = there.start([*COMMAND, *(limit if end == "time limit" else [])], log)
    checkpoints = there.root / ".tailnas" / "checkpoints"
    wait_until(lambda: list(checkpoints.glob("retrain-*.pt")), process, "a checkpoint of retrain", log)
    script = stage_process(there, "retrain")
    script.suspend()  # it hangs, and goes on only in another job
    (job,) = [job for job in slurm.jobs() if job["WorkDir"] == str(there.root) and job["JobState"] == "RUNNING"]
    if end == "scancel":
        slurm.run("scancel", job["JobId"])
    assert process.wait(2 * PATIENCE) == 0, log.read_text()[-6000:]

    (job,) = [found for found in slurm.jobs() if found["JobId"] == job["JobId"]]
    assert job["JobState"] == {"scancel": "CANCELLED", "time limit": "TIMEOUT"}[end]
    assert there.outputs() == here.outputs() and there.is_clean() and there.leftovers() == []
    texts = [Path(found["StdOut"]).read_text() for found in slurm.jobs() if "run_random" in found["StdOut"]]
    texts = [text for text in texts if "retrain@random-10-0-0" in text and str(there.root) in text]
    assert re.search(r"^retrain [\w.-]+: going on after epoch [1-9]", texts[1], flags=re.MULTILINE), texts[1]
    epochs = Counter(re.findall(r"^retrain [\w.-]+ epoch (\d+)/60", "\n".join(texts), flags=re.MULTILINE))
    assert len(epochs) == 60 and set(epochs.values()) == {1}, f"an epoch was computed twice: {epochs}"


def stage_process(project: Project, stage: str) -> psutil.Process:
    """The stage's script, wherever Slurm has started it."""
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if (process.info["cmdline"] or [])[1:3] == ["-m", f"stages.{stage}"]
        and process.info["cwd"] == str(project.root)
    ]
    return found
