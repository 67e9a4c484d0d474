"""YAML as DVC reads it, and one line where there is none."""

import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(number, 0.01) for number in ("1e-2", "1.0e-2", "0.01", ".01", "+1e-2")],
        *[("0123", 123), ("-7", -7), (".inf", float("inf"))],
        *[("true", True), ("False", False), ("yes", "yes"), ("off", "off")],
        *[("null", None), ("~", None), ("'1'", "1"), ("[1, 2.5]", [1, 2.5])],
    ],
)
def test_values_read_as_dvc_reads_them(tmp_path, text, value):
    (tmp_path / "a.yaml").write_text(f"key: {text}")
    found = read_yaml(tmp_path / "a.yaml")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"study: {methods: [darts", " line 1, column 24: "),
        (b"study:\n\tmethods: [darts]", " line 2, column 1: "),
        (b"study: {methods: [darts]}\nstudy: {methods: [bbn]}", " line 2, column 1: key 'study' stands here twice"),
        (b"1: 2", " line 1, column 1: key 1 is not text"),
        (b"!!python/object/apply:os.getcwd []", " line 1, column 1: "),
        (b"study: \x07", " "),
        (b"\xff\xfe\x00", " "),
        (b"[" * 100_000, " cannot be read"),
        (None, " cannot be read"),
    ],
)
def test_no_yaml_of_ours_is_one_line(tmp_path, content, said):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_yaml(path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{path}:{said}") and "; allowed: " in line
