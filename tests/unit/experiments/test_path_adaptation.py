"""The time of an adaptation: what is printed, and what the exit status says about it."""

import re

import pytest

from benchmarks.path_adaptation import LARGEST_SHARE, main


def test_the_exit_status_is_the_verdict_on_the_share(preset, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(preset()), "--epochs", "1", "--images", "16", "--repeats", "2"])
    said = capsys.readouterr().out
    assert all(
        re.search(rf"^ *{name} +-?[\d.]+ s per epoch, [\d.]+ s once$", said, re.M) for name in ("head", "finetune")
    )
    assert re.search(r"share of 2 epochs .* -?\d", said) and re.search(r"share of 50 epochs .* -?\d", said)
    share = float(re.search(r"share of an epoch (-?[\d.]+)", said)[1])
    assert bool(stop.value.code) == (share > LARGEST_SHARE)


def test_a_mistake_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"none\.yaml: cannot be read"):
        main([str(tmp_path / "none.yaml")])
