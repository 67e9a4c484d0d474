"""A dvc.yaml that its user has broken is one line."""

from pathlib import Path

import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.pipeline import declarations, outputs

BROKEN = {
    "": "stages: null; allowed: ",
    "stages: [a]": 'stages: ["a"]; allowed: ',
    "stages: {fetch: null}": "stages.fetch: null; allowed: ",
    "stages: {each: {foreach: [1], do: 3}}": "stages.each: ",
    "stages: {own: {cmd: x, outs: null}}": "stages.own.outs: null; allowed: a list",
    "stages: {own: {cmd: x, deps: a.txt}}": 'stages.own.deps: "a.txt"; allowed: a list',
    "stages: {own: {cmd: x": "line ",
}


@pytest.mark.parametrize("text", BROKEN)
def test_it_names_what_is_wrong(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(text)
    for read in (declarations, lambda: list(outputs({}))):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value).startswith(f"dvc.yaml: {BROKEN[text]}") and "\n" not in str(error.value)
