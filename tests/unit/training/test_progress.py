"""What a person sees of long work."""

import io
import sys

import pytest

from tailnas.training.progress import Progress

ROW = {"epoch": 1, "learning_rate": 0.1, "loss": 0.123456, "balanced_accuracy": 0.5, "genotype": "{}"}


def show(mode, done=0, epochs=2):
    progress = Progress("search test", epochs, 3, mode, done=done)
    for _ in range(done, epochs):
        for _ in range(3):
            progress.step()
        progress.epoch(ROW)
    progress.close()


def test_one_line_per_epoch(capsys):
    show("lines")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("search test epoch 1/2 loss 0.1235 balanced accuracy 0.5 (0.0 s per epoch, ")
    assert lines[1].startswith("search test epoch 2/2") and lines[1].endswith("0 s left)")


def test_epochs_that_lie_behind_are_counted(capsys):
    show("lines", done=1)
    assert [line.split(" loss")[0] for line in capsys.readouterr().out.splitlines()] == ["search test epoch 2/2"]


def test_auto_is_lines_where_there_is_no_terminal(capsys):
    show("auto")
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2 and captured.err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    show("auto")
    shown = sys.stderr.getvalue()
    assert capsys.readouterr().out == "" and "search test" in shown and "6/6" in shown


def test_none_says_nothing(capsys):
    show("none")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("done", [0, 1])
def test_the_bar_starts_where_the_work_does(capsys, done):
    show("bar", done=done)
    assert f"{3 * 2}/6" in capsys.readouterr().err
