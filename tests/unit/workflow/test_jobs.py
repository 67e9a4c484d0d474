"""What tells Snakemake that a stage is undone, whatever the times of its outputs say."""

import os
import time
from pathlib import Path

import pytest

from bridge.plan import Job
from workflow.jobs import stamp, write_stamp


def job(*, done: bool) -> Job:
    return Job("own", ["python own.py"], ".", [], {"results/own": True, "results/table.csv": False}, done=done)


@pytest.mark.parametrize("seconds", [-3600, 0, 3600, 10**8], ids=["earlier", "now", "clock set back", "far"])
def test_the_stamp_of_what_is_undone_is_newer_than_every_output(tmp_path, monkeypatch, seconds):
    monkeypatch.chdir(tmp_path)
    Path("results/own/deep").mkdir(parents=True)
    moment = time.time() + seconds
    for file in (Path("results/own/deep/a.csv"), Path("results/table.csv"), Path("results/own/link")):
        file.symlink_to("nowhere") if file.name == "link" else file.touch()
        os.utime(file, (moment, moment), follow_symlinks=False)
    write_stamp(job(done=False))
    written = Path(stamp(job(done=False)))
    outputs = [*Path("results").rglob("*")]
    assert written.stat().st_mtime > max(path.lstat().st_mtime for path in outputs if path.name != "deep")
    before = written.stat().st_mtime_ns
    write_stamp(job(done=True))
    assert written.stat().st_mtime_ns == before
