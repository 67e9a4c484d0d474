"""YAML as DVC reads it, and one line where there is none."""

import pytest
from dvc.utils.serialize import load_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tailnas.foundation.errors import UserError, short
from tailnas.foundation.yaml_file import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(number, 0.01) for number in ("1e-2", "1.0e-2", "0.01", ".01", "+1e-2")],
        *[("0123", 123), ("-7", -7), (".inf", float("inf")), ("0x10", 16), ("0o10", 8), ("1_000", 1000)],
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
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
        (b"study: {methods: [darts]}\nstudy: {methods: [bbn]}", " line 2, column 1: found duplicate key"),
        (b"1: 2", " key 1 is not text"),
        (b"!!python/object/apply:os.getcwd []", " line 1, column 1: "),
        (b"study: \x07", " "),
        (b"\xff\xfe\x00", " "),
        (b"[" * 100_000, " nested too deeply"),
        (b"name: 2026-01-05", " name: 2026-01-05 is of the type date (text needs quotes)"),
        (b"a: {b: !!bool 3}", " line 1, column 8: cannot be read (KeyError"),
        (b"a: &x [*x, 1]\nb:\n- c: !!int x\n", " line 3, column 6: cannot be read (ValueError"),
        (b"a: !!map [1]", " line 1, column 4: expected a mapping node"),
        (b"a: [!!set {x}]", " a.0: {'x'} is of the type set"),
        (b"a: &a [*a]", " a.0: holds itself"),
        (b'"\\e[31m": {1: 2}', " \\x1b[31m: key 1 is not text"),
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


SCALARS = st.one_of(
    st.from_regex(r"[-+]?[0-9_]{1,6}", fullmatch=True),
    st.from_regex(r"[-+]?[0-9]{0,3}\.?[0-9_]{0,3}([eE][-+]?[0-9]{0,2})?", fullmatch=True),
    st.from_regex(r"0[xob][0-9a-f_]{0,4}", fullmatch=True),
    st.sampled_from(
        [
            "on",
            "off",
            "yes",
            "no",
            "true",
            "True",
            "TRUE",
            "null",
            "Null",
            "~",
            ".inf",
            "-.INF",
            ".nan",
            "<<",
            "=",
            "1:30",
            "2026-01-05",
            "!!int",
        ]
    ),
    st.text(max_size=8),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inside: (
        st.lists(inside, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
        | st.lists(inside, max_size=3).map(lambda parts: f"{{{', '.join(f'k{i}: {p}' for i, p in enumerate(parts))}}}")
        | inside.map(lambda part: f"&a {part}")
        | inside.map(lambda part: f"{{<<: {part}, b: *a}}")
    ),
    max_leaves=6,
)


@pytest.mark.filterwarnings("ignore")  # the other reader warns of anchors that are used twice
@pytest.mark.parametrize("examples", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_document_reads_as_dvc_reads_it_or_is_one_line(tmp_path, examples):
    path = tmp_path / "a.yaml"

    @settings(max_examples=examples, deadline=None, derandomize=examples == 100)
    @given(DOCUMENTS)
    def check(document):
        path.write_text(f"key: {document}\n", encoding="utf-8")
        try:
            found = read_yaml(path)
        except UserError as error:
            assert len(str(error).splitlines()) == 1 and str(error).isprintable()
        else:
            assert repr(found) == repr(load_yaml(str(path)))

    check()


def test_a_small_file_that_is_endless_by_aliases_is_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 60))]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    with pytest.raises(
        UserError, match=r"a\.yaml: a6: holds 1,[0-9,]+ values, counting .*; allowed: YAML as in presets/"
    ):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("\n".join(lines[:6]))
    found = read_yaml(tmp_path / "a.yaml")["a5"]
    assert short(found).startswith("[[[") and len(short(found)) == 80
