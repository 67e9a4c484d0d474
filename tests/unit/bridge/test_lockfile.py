"""Entries are put into dvc.lock as text, and give what DVC's own round trip gives."""

from __future__ import annotations

import pytest
from dvc.exceptions import DvcException
from dvc.utils.serialize import dumps_yaml, parse_yaml, parse_yaml_for_update

from bridge.lockfile import key_of, replace, spliced

ENTRIES = {
    name: {
        "cmd": f"python -m steps.{name} " + "--word value " * 12,
        "deps": [{"path": "code", "hash": "md5", "md5": "0" * 32, "size": 3}],
        "params": {
            "params.yaml": {"study": {"seeds": [0, 1], "text": "a: b # c", "none": None, "lines": "one\n\ntwo\n"}}
        },
        "outs": [{"path": f"out/{name}", "hash": "md5", "md5": f"{number:032d}.dir", "size": 1, "nfiles": 1}],
    }
    for number, name in enumerate(["a@0", "b", "10", "c@x-1.5", "null"])
}


def text_of(entries):
    return {key_of(text): text for name, entry in entries.items() for text in [entry_text(name, entry)]}


def entry_text(name, entry):
    return dumps_yaml({"stages": {name: entry}}).partition("\n")[2]


def dvcs_own(text, entries):
    """As DVC's `modify_yaml` does it."""
    document = parse_yaml_for_update(text, "dvc.lock") or {"schema": "2.0"}
    document.setdefault("stages", {}).update(entries)
    return dumps_yaml(document)


def test_entries_go_where_dvc_puts_them():
    text = dvcs_own("", {name: ENTRIES[name] for name in ("a@0", "10", "null")})
    changed = {name: {**ENTRIES[name], "cmd": "another"} for name in ("10", "b", "c@x-1.5")}
    new = spliced(text, text_of(changed), [])
    assert new == dvcs_own(text, changed)
    assert set(parse_yaml(new, "dvc.lock")["stages"]) == set(ENTRIES)


def test_a_first_entry_makes_the_file():
    assert spliced("", text_of({"b": ENTRIES["b"]}), []) == dvcs_own("", {"b": ENTRIES["b"]})


def test_what_a_run_adds_stands_in_the_order_of_the_plan_whenever_it_was_added():
    keys = {name: next(iter(text_of({name: ENTRIES[name]}))) for name in ENTRIES}
    text = spliced("", text_of({"c@x-1.5": ENTRIES["c@x-1.5"]}), [])
    plan = [keys[name] for name in ("a@0", "b", "c@x-1.5")]
    new = spliced(text, text_of({name: ENTRIES[name] for name in ("b", "a@0")}), plan)
    assert list(parse_yaml(new, "dvc.lock")["stages"]) == ["a@0", "b", "c@x-1.5"]


@pytest.mark.parametrize(
    "text",
    [
        "stages:\n  a:\n    cmd: x\n",
        "schema: '2.0'\nstages: {a: {cmd: x}}\n",
        "schema: '2.0'\nstages:\n  # note\n",
        "{",
    ],
)
def test_a_file_laid_out_otherwise_is_left_to_dvc(text):
    assert spliced(text, text_of({"b": ENTRIES["b"]}), []) is None


def test_a_file_cut_anywhere_takes_entries_or_is_left_to_dvc():
    text = dvcs_own("", {name: ENTRIES[name] for name in ("a@0", "b")})
    new = {"b": {**ENTRIES["b"], "cmd": "another"}, "c@x-1.5": ENTRIES["c@x-1.5"]}
    taken = 0
    for length in range(1, len(text)):
        try:
            left = parse_yaml(text[:length], "dvc.lock")
        except DvcException:
            continue
        if (result := spliced(text[:length], text_of(new), [])) is not None:
            assert parse_yaml(result, "dvc.lock")["stages"] == {**(left["stages"] or {}), **new}, text[:length]
            taken += 1
    assert taken > len(text) // 4


def test_other_sections_stay():
    text = "schema: '2.0'\nstages:\n" + entry_text("b", ENTRIES["b"]) + "datasets:\n- name: d\n"
    new = spliced(text, text_of({"a@0": ENTRIES["a@0"]}), [])
    assert new.endswith("datasets:\n- name: d\n") and "a@0" in new


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "dvc.lock"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "new \ud800", tmp_path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
