"""An experiment's folder belongs to the parameters it was begun with."""

import pytest

from benchmarks.output import FILE, claim
from tailnas.foundation.errors import UserError
from tailnas.validate.presets import load_preset


@pytest.fixture
def params(preset):
    return lambda **changes: load_preset(preset(**changes))


def test_the_same_parameters_go_on(tmp_path, params):
    claim(tmp_path / "out", params())
    claim(tmp_path / "out", params())


def test_more_seeds_and_another_device_change_no_result_that_is_there(tmp_path, params):
    claim(tmp_path / "out", params())
    claim(tmp_path / "out", params(study={"seeds": [0, 1, 2]}, runtime={"device": "auto", "threads": 2}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrain": {"training": {"epochs": 3}}}, r"retrain\.training\.epochs 2, not 3"),
        ({"study": {"imbalance_factors": [3]}}, r"study\.imbalance_factors \[30\], not \[3\]"),
        ({"data": {"source": {"train_per_class": 9}}}, r"data\.source\.train_per_class 8, not 9"),
        ({"retrain": {"loss": {"name": "focal", "gamma": 1.5}}}, r"retrain\.loss\.gamma null, not 1\.5"),
        ({"search": {"bbn": {"mix": "probabilities"}}}, r'search\.bbn\.mix "logits", not "probabilities"'),
    ],
)
def test_other_parameters_are_named_and_nothing_is_written(tmp_path, params, changes, message):
    folder = tmp_path / "out"
    claim(folder, params())
    noted = (folder / FILE).read_bytes()
    with pytest.raises(UserError, match=rf"^{folder}: its results are of {message}; allowed: .*folder"):
        claim(folder, params(**changes))
    assert (folder / FILE).read_bytes() == noted


@pytest.mark.parametrize("damage", ["", "[1", "[]", "\xff"])
def test_a_damaged_note_is_named(tmp_path, params, damage):
    (tmp_path / FILE).write_text(damage, encoding="latin-1")
    with pytest.raises(UserError, match=rf"{FILE}: .*; allowed: what an experiment wrote"):
        claim(tmp_path, params())
