"""What a study will take: known answers for the multiplication, and the sizes that it starts from."""

import time
from pathlib import Path

import pytest

from tailnas.validate.parameters import load_params
from workflow.cost import known_seconds
from workflow.kept import kept
from workflow.timed_step import Sizes, TimedLoop, _long_tailed, _sizes, timed


def test_a_training_is_timed_by_one_warm_epoch():
    slept = []

    def run_epoch(epoch, step_done):
        time.sleep(0.02 if slept else 0.2)
        slept.append(epoch)
        return {}

    loop = TimedLoop("search", 50.0).part("again")
    assert timed(lambda: loop.run(30, 4, run_epoch, {})) == pytest.approx(30 * 50 * 0.02, rel=0.5)
    assert len(slept) == 2
    assert 0.05 < timed(lambda: time.sleep(0.1)) < 1.0


def test_sizes_are_those_of_the_study():
    params = load_params(Path("params.yaml"))
    assert _sizes(params.data.source) == Sizes(26 * 30, 26, 26 * 10)
    counts = (124, 84, 58, 39, 27, 18, 12, 8, 6, 4)
    assert _long_tailed(params, 30) == Sizes(sum(counts), 10, 0)
    natural = params.model_copy(update={"split": params.split.model_copy(update={"profile": "natural"})})
    assert _long_tailed(natural, "natural").images == 1797 - 500


def test_what_was_noted_needs_no_timing():
    noted = {"pretrain": 4.0, "search": 3.0, "retrain": 2.0, "report": 1.0}
    assert known_seconds({"search", "adapt"}, noted) == noted


def test_what_is_kept_is_what_a_checkpoint_was_written_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("logs/live").mkdir(parents=True)
    Path("logs/live/search.csv").write_text("run,epoch,epochs,loss\na-1-0,1,9,.\na-1-0,2,9,.\nb-1-0,9,9,.\n")
    checkpoints = Path(".tailnas/checkpoints")
    checkpoints.mkdir(parents=True)
    (checkpoints / "search-a-1-0-0123456789abcdef.pt").touch()
    assert kept() == ["search a-1-0: 2 of 9 epochs kept"]
    assert kept(time.time() + 10) == []
