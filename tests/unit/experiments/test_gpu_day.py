"""The GPU's jobs, in miniature on a CPU: they run, their file is right, and a killed call costs little."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import photographs
from benchmarks.gpu_day import carry
from benchmarks.gpu_day.data import preset
from benchmarks.gpu_day.day import main, order
from benchmarks.gpu_day.gpu_tests import command, outcomes
from benchmarks.gpu_day.jobs import JOBS
from benchmarks.gpu_day.networks import ARMS, best_sharing
from benchmarks.gpu_day.results import Day, OutOfTime, Part, Results, run_parts
from benchmarks.gpu_day.study import METHODS, SEEDS, StageRun, document, next_runs, stage_runs
from tailnas.data.dataset import Dataset, save
from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml

ROOT = Path(__file__).parents[3]


def day(folder: Path, seconds: float = 1000, **changes) -> Day:
    return Day(folder, "cpu", True, None, None, 1, time.time() + seconds)


def kit(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--device", "cpu", "--miniature", "--folder", str(folder)]
    return [*command, *arguments]


def test_what_is_done_is_kept_what_failed_is_tried_again(tmp_path) -> None:
    results, calls = Results(tmp_path), []

    def counts(known, note):
        so_far = (known or {"count": 0})["count"] + 1
        note({"count": so_far})
        if so_far < 2:
            raise OutOfTime
        return {"count": so_far}

    def fails(known, note):
        calls.append("fails")
        if len(calls) < 3:
            raise ValueError("first line\nlast line")
        return {}

    parts = {
        "quick": Part(lambda known, note: calls.append("quick") or {"value": 1}, 0),
        "fails": Part(fails, 0),
        "counts": Part(counts, 0),
        "long": Part(lambda known, note: {}, 100),
    }
    assert run_parts("job", parts, day(tmp_path, 50), results) == "failed"
    job = results.job("job")
    assert job["results"] == {"quick": {"value": 1}, "counts": {"unfinished": True, "count": 1}}
    assert job["errors"] == {"fails": "ValueError: last line"}
    assert run_parts("job", parts, day(tmp_path, 50), results) == "partly"
    assert run_parts("job", parts, day(tmp_path), results) == "done"
    assert results.job("job")["results"] == {"quick": {"value": 1}, "fails": {}, "counts": {"count": 2}, "long": {}}
    assert calls == ["quick", "fails", "fails"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_failed_jobs_come_last_and_done_ones_not_again(tmp_path) -> None:
    results = Results(tmp_path)
    for name, state in (("tests", "done"), ("checks", "failed"), ("speed", "partly")):
        results.update_job(name, {**results.job(name), "state": state})
    names = [job.name for job in order(results, None)]
    assert names[0] == "speed"
    assert names[-1] == "checks"
    assert "tests" not in names
    assert [job.name for job in order(results, ["checks"])] == ["checks"]
    assert all(job.minutes <= 9 for job in JOBS)


def test_a_damaged_file_is_one_line(tmp_path, capsys) -> None:
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(SystemExit) as stop:
        main(["--device", "cpu", "--folder", str(tmp_path)])
    assert "allowed: what an earlier call wrote" in str(stop.value)
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(JOBS)


@pytest.mark.slow
def test_a_killed_call_takes_its_processes_along_and_the_next_goes_on(tmp_path) -> None:
    results = Results(tmp_path)
    call = subprocess.Popen(kit(tmp_path, "--only", "search"), cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not results.job("search")["results"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{call.pid}/task/{call.pid}/children").read_text().split()
    call.send_signal(signal.SIGKILL)
    call.wait()
    before = next(iter(results.job("search")["results"].values()))
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert before["unfinished"]

    done = subprocess.run(kit(tmp_path, "--only", "search"), cwd=ROOT, check=True, capture_output=True, text=True)
    (result,) = results.job("search")["results"].values()
    assert results.job("search")["state"] == "done"
    assert result["epochs"] == len(result["seconds"]) == 2
    assert result["seconds"]["1"] == before["seconds"]["1"], "the first epoch was not run again"
    assert "going on after epoch 1 of 2" in (tmp_path / "logs" / "search.txt").read_text()
    assert len(done.stdout.splitlines()[-9:]) == 1 + len(JOBS)


@pytest.mark.slow
def test_the_study_runs_by_the_stage_scripts(tmp_path) -> None:
    subprocess.run(kit(tmp_path, "--only", "study"), cwd=ROOT, check=True, capture_output=True, text=True)
    result = Results(tmp_path).job("study")["results"]["runs"]
    (run,) = result["runs"].values()
    assert set(run["metrics"]) >= {"retrained", "adapted"}
    assert run["cost"]["optimiser_steps"] > 0
    assert run["genotype"]["normal"]
    assert all(done == count for stage, (done, count) in result["stages_done_of"].items() if stage != "pretrain")


@pytest.mark.slow
def test_every_job_runs(tmp_path) -> None:
    subprocess.run(kit(tmp_path, "--minutes", "30"), cwd=ROOT, check=True, capture_output=True, text=True)
    jobs = Results(tmp_path).read()["jobs"]
    assert {name: job["state"] for name, job in jobs.items()} == {job.name: "done" for job in JOBS}
    curve = jobs["resnet"]["results"]["networks"]["cross-entropy seed 0"]["curve"]
    assert len(curve) == 2
    assert all(job.headline(jobs[job.name]["results"]) for job in JOBS)


def test_stages_of_the_study_are_those_of_dvc_yaml(tmp_path) -> None:
    params = document(day(tmp_path)) | {
        "study": {"methods": ["darts", "random"], "imbalance_factors": [100], "seeds": [0, 1], "retrain_seeds": [0, 3]}
    }
    runs = list(stage_runs(read_yaml(ROOT / "dvc.yaml")["stages"], params))
    searches = [run for run in runs if run.stage == "search"]
    assert [run.name for run in searches] == [f"search@{m}-100-{s}" for m in ("darts", "random") for s in (0, 1)]
    assert "--method darts" in searches[0].command
    assert "data/splits/if100-seed0" in searches[0].deps
    assert searches[0].outs == ("results/runs/darts-100-0/search",)
    retrained = [run for run in runs if run.stage == "retrain"]
    assert [run.name for run in retrained[:3]] == [f"retrain@darts-100-{seeds}" for seeds in ("0-0", "0-3", "1-0")]
    assert "results/runs/darts-100-0/derive/genotype.json" in retrained[1].deps
    assert "--retrain-seed 3" in retrained[1].command
    assert retrained[1].outs == ("results/runs/darts-100-0-3/retrain",)
    assert not any("${" in text for run in runs for text in (run.command, *run.deps, *run.outs))


def test_a_seed_is_finished_before_the_next_is_begun(tmp_path) -> None:
    def run(stage: str, seed: int, deps: tuple[str, ...] = ()) -> StageRun:
        return StageRun(stage, f"{stage}@{seed}", "python", {"seed": str(seed)}, deps, (f"{stage}{seed}",))

    runs = [run("search", 0), run("search", 1), run("retrain", 0, ("search0",)), run("retrain", 1, ("search1",))]
    assert [r.name for r in next_runs(runs, tmp_path, [])] == ["search@0", "search@1"]
    (tmp_path / "search0").mkdir()
    assert [r.name for r in next_runs(runs, tmp_path, [])] == ["retrain@0", "search@1"]
    assert [r.name for r in next_runs(runs, tmp_path, ["retrain@0"])] == ["search@1"]


def test_the_study_at_full_size_is_valid(tmp_path) -> None:
    whole = Day(tmp_path, "cuda", False, None, None, 4, 0.0)
    params = document(whole)
    assert params["study"]["methods"] == [name for name in METHODS if name != "imb_nas"]
    assert params["study"]["seeds"] == list(SEEDS)
    assert all(preset(whole, name).retrain.training.epochs == 200 for name in ARMS.values())
    assert params["search"]["bilevel"]["initialisation"] == "scratch"


def test_pytest_is_asked_for_every_test_marked_gpu(tmp_path) -> None:
    listed = subprocess.run(
        [*command(tmp_path / "report.xml", "tests/unit/batches", "tests/unit/search/test_steps.py"), "--collect-only"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "test_a_recorded_step_is_the_same_step" in listed
    assert "test_a_step_can_be_captured_in_a_graph" in listed
    (tmp_path / "report.xml").write_text(
        "<testsuites><testsuite><testcase classname='a' name='passes'/><testcase classname='a' name='fails'><failure/>"
        "</testcase><testcase classname='a' name='skips'><skipped/></testcase></testsuite></testsuites>"
    )
    assert outcomes(tmp_path / "report.xml") == {
        "passed": ["a::passes"],
        "skipped": ["a::skips"],
        "failed": ["a::fails"],
    }


def test_fewest_networks_that_are_nearly_best() -> None:
    rates = {1: 50, 2: 90, 4: 96, 8: 100}
    assert best_sharing({f"{count} at once": {"images_per_second": rate} for count, rate in rates.items()}) == 4
    assert best_sharing({}) == 4


def test_state_travels_in_pieces_and_the_largest_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(carry, "PIECE", 40_000)
    folder, out, there = tmp_path / "here", tmp_path / "out", tmp_path / "there"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "data" / "images.npy").write_bytes(b"x")
    (folder / "results.json").write_text("{}")
    contents = {"small.pt": os.urandom(1000), "middle.pt": os.urandom(90_000), "large.pt": os.urandom(200_000)}
    for name, content in contents.items():
        (folder / "checkpoints" / name).write_bytes(content)
    carry.pack(folder, out)
    assert all(file.stat().st_size <= 40_000 for file in out.iterdir())
    carry.unpack(out, there)
    kept = {file.name: file.read_bytes() for file in (there / "checkpoints").iterdir()}
    assert kept == {name: contents[name] for name in ("small.pt", "middle.pt")}
    assert not (there / "data").exists()


def test_photographs_come_back_as_they_were(tmp_path) -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (9, 12, 40))
    draw.shuffle(labels)
    images = draw.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    save(
        Dataset(images, labels, images[:9], np.repeat(np.arange(3), 3), ("a", "b", "c"), "name", "folder"),
        tmp_path / "raw",
    )
    photographs.pack(tmp_path / "raw", tmp_path / "packed", None, 0)
    back = photographs.unpack(tmp_path / "packed")
    for label in range(3):
        assert np.array_equal(back.train_images[back.train_labels == label], images[labels == label])
    assert np.array_equal(back.test_images, images[:9])
    assert (back.classes, back.name, back.kind) == (("a", "b", "c"), "name", "folder")

    photographs.pack(tmp_path / "raw", tmp_path / "tail", 2.0, 0)
    assert np.bincount(photographs.unpack(tmp_path / "tail").train_labels).tolist() == [9, 6, 4]
    description = json.loads((tmp_path / "packed" / "sheets.json").read_text())
    description["train"][0] = [8]
    (tmp_path / "packed" / "sheets.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="allowed: what `pack` wrote"):
        photographs.unpack(tmp_path / "packed")


@pytest.mark.parametrize("name", ["../out", "/out", "link"])
def test_what_came_back_is_files_below_the_folder_alone(name, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with tarfile.open(source / f"{carry.NAME}-0", "w") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(member)
    with pytest.raises(UserError, match=r"is no file below the folder; allowed: what --output wrote"):
        carry.unpack(source, tmp_path / "there")
    assert not (tmp_path / "out").exists() and list((tmp_path / "there").iterdir()) == []
