"""Any params.yaml is accepted, or refused in lines that name a key: never a traceback, a hang or a file elsewhere."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.apart import require_apart
from tailnas.validate.feasible import require_feasible
from tailnas.validate.parameters import load_params

REPOSITORY = Path(__file__).parents[2]
DEFAULT = read_yaml(REPOSITORY / "presets" / "default.yaml")


def keys(section: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the document, sections included."""
    found = [above] if above else []
    if isinstance(section, dict):
        for name, value in section.items():
            found += keys(value, (*above, name))
    return found


NAMES = ["..", "../../x", "a/b", "$(id)", "`id`", "; rm -rf x", "${study.seeds}", "{{x}}", "-rf", "con", "a" * 300, ""]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(NAMES),
    st.sampled_from(["~", "~nosuchuser/x", "/", ".", "/dev/zero", "\0", "a\nb", "\x1b[31m", "ü", "ü", "darts"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(["name", "kind", "beta"]), inside, max_size=3)
    ),
    max_leaves=5,
)
DATA = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["folder", "cifar10", "glyphs", "digits", "none", 1]),
        "name": st.sampled_from(["birds", "..", "", "a b", "-x", 3, "2026-01-05", "Ü", "glyphs"]),
        "seed": st.sampled_from([0, -1, 1.5, None, 2**40]),
        "test_per_class": st.sampled_from([1, 2, 0, 10**9, "2"]),
    },
    optional={
        "path": st.sampled_from(["mine", "~", "~nosuchuser", "data/raw", "/", "x" * 300, "a\0b", "", "dvc.yaml"]),
        "root": st.sampled_from([None, "mine", "data/raw/birds", "~nosuchuser", "x" * 5000]),
        "url": st.sampled_from([None, "file:///etc/passwd", "http://"]),
        "sha256": st.sampled_from([None, "0" * 64, "x"]),
        "alphabet": st.sampled_from(["letters", "all", None]),
        "train_per_class": st.sampled_from([4, 100_000, 10**12]),
    },
)
ODD = [
    "x: !!python/object/apply:os.system [id]",
    "x: !!bool 3",
    "x: !!map [1]",
    "? [a]\n: 1",
    "study: {seeds: [1]}",
    "x: &a [*a]",
    "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)),
    "\t",
    "%YAML 1.1\n---",
    "--- 1\n--- 2",
    "<<: {study: 1}",
    "<<: 3",
    "[" * 3000,
    "\x07",
    "'",
    "x: !own 3",
    "x: *nothing",
]


@st.composite
def documents(draw: st.DrawFn) -> str:
    document = copy.deepcopy(DEFAULT)
    for _ in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from(keys(DEFAULT)))
        node = document
        for part in above:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        change = draw(st.sampled_from(["value", "remove", "add"]))
        if change == "remove":
            node.pop(last, None)
        else:
            node[last if change == "value" else draw(st.text(max_size=5))] = draw(VALUES)
    if draw(st.booleans()) and isinstance(document.get("data"), dict):
        document["data"][draw(st.sampled_from(["source", "target"]))] = draw(DATA)
    (path := Path("written.yaml")).unlink(missing_ok=True)
    YAML(typ="safe").dump(document, path)
    text = path.read_text(encoding="utf-8")
    if draw(st.integers(0, 3)) == 0:
        odd = draw(st.sampled_from(ODD))
        text = draw(st.sampled_from([f"{text}\n{odd}\n", f"{odd}\n{text}", odd]))
    return text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_any_document_is_accepted_or_refused_by_its_keys(tmp_path, monkeypatch, examples):
    project = tmp_path / "project"
    for name in ("crow", "duck"):
        (project / "mine" / name).mkdir(parents=True)
        for i in range(4):
            (project / "mine" / name / f"{i}.png").write_text("x")
    shutil.copy(REPOSITORY / "dvc.yaml", project)
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(project / "mine"))

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=examples < 100,  # the same every day
    )
    @given(documents())
    def check(text):
        Path("params.yaml").write_text(text, encoding="utf-8")
        try:
            params = load_params()
            require_apart(params, read_yaml(Path("params.yaml")))
            require_feasible(params)
        except (UserError, OSError) as error:
            lines = str(error).split("\n")
            assert all(line.strip() and line.isprintable() for line in lines), lines
            assert isinstance(error, OSError) or all("; allowed: " in line for line in lines), lines
            assert all(len(line) < 2000 for line in lines)
        left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
        images = {f"project/mine/{name}/{i}.png" for name in ("crow", "duck") for i in range(4)}
        assert left == images | {f"project/{name}" for name in ("dvc.yaml", "params.yaml", "written.yaml")}

    check()
