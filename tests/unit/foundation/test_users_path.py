"""Paths of the user's own: ~ is a home, and what cannot be a path is one line, everywhere."""

from pathlib import Path

import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.users_path import users_path
from tailnas.sources import folder, lists, manifest

NO_PATHS = {
    "~nosuchuser/x": "Could not determine home directory; allowed: a path, in which ~ is your home",
    f"/{'a' * 300}": "File name too long; allowed: ",
    "a\0b": "embedded null byte; allowed: ",
}


def test_a_tilde_is_a_home_and_what_is_missing_is_left_to_the_reader(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert users_path("key", "~/images") == tmp_path / "images"
    assert users_path("key", "nothing/here") == Path("nothing/here")


@pytest.mark.parametrize("text", NO_PATHS)
def test_what_cannot_be_a_path_names_the_key(text):
    with pytest.raises(UserError) as error:
        users_path("search.frozen.weights", text)
    line = str(error.value)
    assert line.startswith("search.frozen.weights: ") and NO_PATHS[text] in line and line.isprintable()


@pytest.mark.parametrize("text", NO_PATHS)
@pytest.mark.parametrize(
    ("source", "key", "more"),
    [
        (folder, "path", {}),
        (lists, "root", {"train": "x", "test": None}),
        (manifest, "root", {"file": "x"}),
    ],
)
def test_sources_name_it(source, key, more, text):
    own = {"name": "mine", "test_per_class": 1, "group": None, "unreadable": "refuse", "seed": 0, **more}
    with pytest.raises(UserError, match=rf"^data: mine: {key}: .*; allowed: "):
        source.train_counts(source.Settings(**own, **{key: text}))
