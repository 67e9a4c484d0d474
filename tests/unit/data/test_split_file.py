import numpy as np
import pytest

from tailnas.data.split_file import Split, read_split, write_split
from tailnas.foundation.errors import UserError

ROWS = np.arange(0, 480, 3)
SPLIT = Split(ROWS, ROWS % 5, np.array(["weight", "architecture"])[ROWS % 2], 6)
NAMES = ("a b", 'quo"te', "com,ma", "line\nbreak", "é", "6")


def test_written_and_read(tmp_path) -> None:
    write_split(SPLIT, tmp_path, NAMES)
    back = read_split(tmp_path, num_images=480, num_classes=6)
    assert (back.indices == SPLIT.indices).all()
    assert (back.labels == SPLIT.labels).all()
    assert (back.halves == SPLIT.halves).all()
    assert (tmp_path / "split.csv").read_text().startswith("index,label,half\n")
    assert (tmp_path / "counts.csv").read_text().startswith("class,name,total,weight,architecture\n0,a b,")


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("split.csv", None, "no such file"),
        ("counts.csv", None, "no such file"),
        ("split.csv", lambda t: "", "columns"),
        ("split.csv", lambda t: t.replace("index,", "row,", 1), "columns"),
        ("split.csv", lambda t: t[: t.index("\n") + 1], "no rows"),
        ("split.csv", lambda t: t.replace("weight", "test", 1), "half: 'test'; allowed: weight, architecture"),
        ("split.csv", lambda t: t + t.splitlines()[1] + "\n", "stands there twice"),
        ("split.csv", lambda t: t + "480,0,weight\n", "index: '480'; allowed: whole numbers from 0 to 479"),
        ("split.csv", lambda t: t + "-1,0,weight\n", "index: '-1'"),
        ("split.csv", lambda t: t + "1.0,0,weight\n", "index: '1.0'"),
        ("split.csv", lambda t: t + "٣,0,weight\n", "index: '٣'"),
        ("split.csv", lambda t: t + "9" * 400 + ",0,weight\n", "index: '999"),
        ("split.csv", lambda t: t[: len(t) // 2].rsplit(",", 1)[0], "field"),
        ("split.csv", lambda t: t[: len(t) // 2].rsplit("\n", 1)[0] + "\n", "as in counts.csv"),
        ("split.csv", lambda t: t.replace(",0,", ",6,", 1), "label: '6'"),
        ("split.csv", lambda t: "\0" * len(t), "columns"),
        ("counts.csv", lambda t: t.replace("\n1,", "\n2,", 1), "class: '2'; allowed: 1"),
        ("counts.csv", lambda t: t.rsplit("\n", 2)[0] + "\n", "5 classes; allowed: 6"),
        ("counts.csv", lambda t: t.replace("\n0,a b,", "\n0,a b,x", 1), "total: 'x"),
        ("counts.csv", lambda t: t.replace('"', "'"), "counts.csv"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, change, told) -> None:
    write_split(SPLIT, tmp_path, NAMES)
    path = tmp_path / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_split(tmp_path, num_images=480, num_classes=6)
    assert told in str(caught.value)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path) -> None:
    write_split(SPLIT, tmp_path, NAMES)
    (tmp_path / "split.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match=r"split\.csv: cannot be read .*; allowed: "):
        read_split(tmp_path)
