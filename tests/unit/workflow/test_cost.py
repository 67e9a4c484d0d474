"""What a study will take: known answers for the multiplication, and the sizes that it starts from."""

import time
from pathlib import Path

import numpy as np
import pytest

from tailnas.data.dataset import Dataset, save
from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen
from tailnas.sources import cifar100
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


def test_sizes_of_an_archive_that_nobody_knows_are_those_of_what_was_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = cifar100.Settings(name="part", root=None, url=None, sha256="0" * 64)
    data = Chosen("cifar100", cifar100, settings)
    with pytest.raises(UserError, match="data/raw/part: not fetched"):
        _sizes(data)
    images = np.zeros((6, 3, 8, 8), np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 0])
    save(Dataset(images, labels, images[:2], labels[:2], ("a", "b"), "part", "cifar100"), Path("data/raw/part"))
    assert _sizes(data) == Sizes(6, 2, 1)


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
