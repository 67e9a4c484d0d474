"""What a study took before, as far as it can be told."""

import json

import pytest

from workflow.study import earlier_seconds


@pytest.mark.parametrize("cut", ["", "{", "[]", "{}", '{"seconds": null}', "\0"])
def test_a_note_that_a_kill_has_cut_counts_as_none(tmp_path, monkeypatch, cut):
    monkeypatch.chdir(tmp_path)
    for name, text in {"split/a": cut, "search/a": cut, "search/b": json.dumps({"seconds": 3})}.items():
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / "run.json").write_text(text)
    assert earlier_seconds() == {"search": 3.0}
