"""A search whose only step diverges ends in one line that begins with the key at fault, whatever the method."""

from dataclasses import replace

import pytest

from tailnas.foundation.errors import UserError
from tests.unit.small_search import search

SCRATCH = {"adaptation": {"name": "scratch", "beta": 0.9}, "candidates": {"name": "random", "count": 1}}
METHODS = {
    "darts": {},
    "bbn": {},
    "ssnas": {},
    "lt_darts": {},
    "darts_pt": {"tuning_epochs": 1},
    "imb_nas": SCRATCH,
    "random_best": {"epochs": 1},
}
RATE = "search.bilevel.architecture_learning_rate"


SLOW = {"bbn", "darts_pt", "random_best", "ssnas"}
CASES = [
    *[pytest.param(name, "learning_rate", marks=[pytest.mark.slow] if name in SLOW else []) for name in METHODS],
    *[("darts", "weight_decay"), ("imb_nas", "weight_decay")],
]


@pytest.mark.parametrize(("method", "fault"), CASES)
def test_the_key_of_the_weights(method, fault, make_task):
    task = make_task(epochs=1, gradient_clip=None, **{fault: 1e38})
    with pytest.raises(UserError, match=rf"^search\.training\.{fault}: 1e\+38: .* became .*; allowed: ") as error:
        search(method, task, **METHODS[method])
    assert (RATE in str(error.value)) == (method not in ("imb_nas", "random_best"))


@pytest.mark.parametrize(
    ("method", "changes", "key"),
    [
        ("lt_darts", {"scale": 1e30}, "search.lt_darts.scale"),
        ("ssnas", {"redundancy": 1e30}, "search.ssnas.redundancy"),
    ],
)
def test_the_key_of_a_scale(method, changes, key, make_task):
    task = replace(make_task(epochs=2, gradient_clip=None), run=(method,))
    with pytest.raises(UserError, match=rf"^{key}: 1e\+30: .* became .*; allowed: "):
        search(method, task, **changes)


def test_the_key_of_the_alphas(make_task):
    task = make_task(epochs=1, architecture_learning_rate=1e38, gradient_clip=None)
    with pytest.raises(UserError, match=rf"^{RATE}: 1e\+38: .* became .*; allowed: "):
        search("darts", task)
