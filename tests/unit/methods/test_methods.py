"""What every file of tailnas/methods offers, and which pretrained super-network each starts from."""

import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import extension, names
from tailnas.foundation.settings import Section
from tailnas.imbalance.samplers import SAMPLERS
from tailnas.methods import imb_nas
from tailnas.search.method import PACKAGE, starting_paths
from tests.unit.small_search import PARAMS

BY_GRADIENT = (
    *("bbn", "bbn_hls", "darts", "darts_resample", "darts_reweight", "lt_darts", "ssf_nas", "ssnas"),
    *("beta_darts", "darts_minus", "darts_pt", "drnas", "fair_darts", "r_darts"),
)
WITHOUT_START = ("darts_v2", "frozen", "given", "pc_darts", "random", "random_best", "resnet32", "zero_cost")
STARTS = {"none": "single", "head": "single", "finetune": "single", "scratch": None}
"""Of imb_nas, by adaptation."""


def adapting(name: str) -> imb_nas.Settings:
    """Settings of imb_nas with this adaptation."""
    more = {"none": {}, "head": {"paths": 2, "beta": 0.9}}.get(name, {"beta": 0.9})
    settings = dict(PARAMS.search.method("imb_nas"))
    return imb_nas.Settings.model_validate({**settings, "adaptation": {"name": name, **more}})


@pytest.mark.parametrize("name", names(PACKAGE))
def test_every_method_has_settings_and_a_search(name):
    method = extension(PACKAGE, name, "study.methods")
    assert callable(method.search)
    assert issubclass(method.Settings, Section) and method.Settings.__doc__
    assert isinstance(PARAMS.search.method(name), method.Settings)
    samplers = getattr(method, "SAMPLERS", ("instance",))
    assert len(samplers) in (1, 2) and set(samplers) <= set(SAMPLERS)


@pytest.mark.parametrize("name", ["", "DARTS", "darts/../bbn", "objective", "__init__"])
def test_unknown_methods_are_named(name):
    with pytest.raises(UserError, match=r"^study\.methods: .*; allowed: bbn, .*darts"):
        starting_paths(name, PARAMS.search.bilevel, PARAMS.search.darts)


@pytest.mark.parametrize("initialisation", ["pretrained", "scratch"])
def test_starting_paths(initialisation):
    """Searches by gradient follow `initialisation`, imb_nas its adaptation; the others start from nothing."""
    bilevel = PARAMS.search.bilevel.model_copy(update={"initialisation": initialisation})
    found = {name: starting_paths(name, bilevel, PARAMS.search.method(name)) for name in BY_GRADIENT + WITHOUT_START}
    by_gradient = "mixture" if initialisation == "pretrained" else None
    assert found == dict.fromkeys(BY_GRADIENT, by_gradient) | dict.fromkeys(WITHOUT_START)
    assert {name: starting_paths("imb_nas", bilevel, adapting(name)) for name in STARTS} == STARTS
