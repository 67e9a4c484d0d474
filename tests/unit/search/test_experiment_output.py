"""An experiment's folder belongs to the parameters it was begun with."""

from pathlib import Path

import pytest

from benchmarks.output import FILE, claim
from tailnas.errors import UserError
from tailnas.params import Params, load_params

SMOKE = Path(__file__).parents[3] / "presets" / "smoke.yaml"


@pytest.fixture
def params() -> Params:
    return load_params(SMOKE)


def changed(params: Params, section: str, **values) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def test_the_same_parameters_go_on(tmp_path, params):
    claim(tmp_path / "out", params)
    claim(tmp_path / "out", params)


def test_more_seeds_and_another_device_change_no_result_that_is_there(tmp_path, params):
    claim(tmp_path, params)
    claim(tmp_path, changed(changed(params, "study", seeds=[0, 1, 2]), "runtime", device="cpu", threads=2))


def test_other_parameters_are_named_and_nothing_is_written(tmp_path, params):
    claim(tmp_path, params)
    noted = (tmp_path / FILE).read_bytes()
    epochs = params.retrain.epochs
    with pytest.raises(
        UserError, match=rf"results are of retrain\.epochs {epochs}, not {epochs + 1}; allowed: .*folder"
    ):
        claim(tmp_path, changed(params, "retrain", epochs=epochs + 1))
    assert (tmp_path / FILE).read_bytes() == noted


def test_of_the_study_only_the_seeds_may_change(tmp_path, params):
    claim(tmp_path, params)
    with pytest.raises(UserError, match=r"study\.imbalance_factors"):
        claim(tmp_path, changed(params, "study", imbalance_factors=[3]))


@pytest.mark.parametrize("damage", ["", "[1", "[]", "\xff"])
def test_a_damaged_note_is_named(tmp_path, params, damage):
    (tmp_path / FILE).write_text(damage, encoding="latin-1")
    with pytest.raises(UserError, match=FILE):
        claim(tmp_path, params)
