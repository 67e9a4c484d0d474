import csv
import threading

import pytest

from tailnas.training.live import COLUMNS, Live, last_epochs
from tailnas.training.loop import Loop


def rows(file):
    with file.open(newline="") as stream:
        return [(row["run"], int(row["epoch"]), row["loss"]) for row in csv.DictReader(stream)]


def train(folder, name, epochs, stop_at=None):
    def run_epoch(epoch, step_done):
        if epoch == stop_at:
            raise KeyboardInterrupt
        return {"loss": 1 / (epoch + 1), "learning_rate": 0.1, "genotype": "x"}

    loop = Loop(f"search {name}", folder / f"{name}.pt", folder / name, "none", folder / "live" / "search.csv")
    return loop.run(epochs, 1, run_epoch, {})


def test_rows_are_there_while_a_training_runs_and_once_after_it_has_gone_on(tmp_path, capsys):
    file = tmp_path / "live" / "search.csv"
    train(tmp_path, "other", 1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, "a", 4, stop_at=3)
    assert capsys.readouterr().err == "\nsearch a: 3 of 4 epochs kept; the same command goes on\n"
    assert rows(file) == [("other", 1, "1.0"), *(("a", epoch + 1, str(1 / (epoch + 1))) for epoch in range(3))]
    assert last_epochs(file) == {"other": (1, 1), "a": (3, 4)}
    train(tmp_path, "a", 4)
    assert [row[:2] for row in rows(file)] == [("other", 1), *(("a", epoch + 1) for epoch in range(4))]
    (tmp_path / "a.pt").unlink()  # computed anew, as after a change of parameters
    train(tmp_path, "a", 2)
    assert [row[:2] for row in rows(file)] == [("other", 1), ("a", 1), ("a", 2)]


def test_runs_that_share_the_file_lose_no_row(tmp_path):
    file = tmp_path / "live.csv"

    def work(name):
        live = Live(file, name, 50)
        live.begin(0)
        for epoch in range(50):
            live.add({"epoch": epoch + 1, "loss": 0.5, "accuracy": 0.25})

    threads = [threading.Thread(target=work, args=(str(index),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert sorted(rows(file)) == sorted((str(index), epoch + 1, "0.5") for index in range(4) for epoch in range(50))


def test_a_damaged_file_says_nothing(tmp_path):
    assert last_epochs(tmp_path / "none.csv") == {}
    (tmp_path / "cut.csv").write_text("run,epoch\na,x\n")
    assert last_epochs(tmp_path / "cut.csv") == {}


@pytest.mark.parametrize(
    "text", ["", "run,epo", "a,3,4,0.1,,\n", ",".join(COLUMNS) + "\na,1,4,0.1,,\nb,x,4", "\0\0\0", "\udcff\n", '"a\n']
)
def test_a_file_that_a_kill_has_cut_loses_what_is_not_whole(tmp_path, text):
    file = tmp_path / "live" / "search.csv"
    file.parent.mkdir()
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    train(tmp_path, "c", 2)
    assert [row for row in rows(file) if row[0] == "c"] == [("c", 1, "1.0"), ("c", 2, "0.5")]
    assert {row[0] for row in rows(file)} <= {"a", "c"}
