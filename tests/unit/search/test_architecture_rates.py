"""Learning rates of the architecture components (method: section 5)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tailnas.imbalance.mixing import MIXING_SCHEDULES, mixing_ratio
from tailnas.search.architecture_rates import (
    BACKBONE_SCHEDULES,
    HEAD_SCHEDULES,
    BackboneRate,
    architecture_learning_rates,
)

ROOT = math.sqrt(0.5)


def test_every_schedule_of_the_backbone_has_a_section():
    for schedule in BACKBONE_SCHEDULES:
        more = {"power": 2.0} if schedule == "polynomial" else {}
        assert TypeAdapter(BackboneRate).validate_python({"schedule": schedule, **more}).schedule == schedule


@given(
    t=st.floats(0, 1),
    mixing=st.sampled_from(MIXING_SCHEDULES),
    heads=st.sampled_from(HEAD_SCHEDULES),
    backbone=st.sampled_from(BACKBONE_SCHEDULES),
    power=st.floats(0.1, 5),
)
def test_rates_are_the_base_times_a_share(t, mixing, heads, backbone, power):
    rates = architecture_learning_rates(t, 0.02, mixing, heads, backbone, power=power)
    mu = mixing_ratio(mixing, t)
    share = {
        "constant": 1.0,
        "mixing": mu,
        "cosine": (1 + math.cos(math.pi * t)) / 2,
        "linear": 1 - t,
        "polynomial": (1 - t) ** power,
        "balance": 2 * min(mu, 1 - mu),
    }
    assert rates["backbone"] == pytest.approx(0.02 * share[backbone], abs=1e-15)
    assert rates["instance_head"] == pytest.approx(0.02 * (mu if heads == "mixing" else 1), abs=1e-15)
    assert rates["class_head"] == pytest.approx(0.02 * (1 - mu if heads == "mixing" else 1), abs=1e-15)
    assert all(0 <= rate <= 0.02 * (1 + 1e-12) for rate in rates.values())


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("mixing", [1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, (1 + ROOT) / 2, 0.5, (1 - ROOT) / 2, 0]),
        ("linear", [1, 0.75, 0.5, 0.25, 0]),
        ("polynomial", [1, 0.5625, 0.25, 0.0625, 0]),
        ("balance", [0, 0.5, 1, 0.5, 0]),
    ],
)
def test_backbone_rates_at_quarters(backbone, expected):
    found = [
        architecture_learning_rates(quarter / 4, 1, "linear", "mixing", backbone, power=2)["backbone"]
        for quarter in range(5)
    ]
    assert found == pytest.approx(expected, abs=1e-15)


def test_the_mixing_ratio_may_come_as_a_number():
    by_name = architecture_learning_rates(0.3, 0.1, "smooth", "mixing", "balance")
    assert architecture_learning_rates(0.3, 0.1, mixing_ratio("smooth", 0.3), "mixing", "balance") == by_name
    constant = architecture_learning_rates(0.3, 0.1, "constant", "mixing", "mixing", m=0.2)
    assert constant == pytest.approx({"backbone": 0.02, "instance_head": 0.02, "class_head": 0.08})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"t": 1.5}, "t"),
        ({"t": math.nan}, "t"),
        ({"base_lr": -1}, "base_lr"),
        ({"base_lr": math.inf}, "base_lr"),
        ({"mixing": "sine"}, "schedule"),
        ({"mixing": -0.1}, "mixing"),
        ({"heads": "cosine"}, "heads"),
        ({"backbone": "sine"}, "backbone"),
        ({"power": 0}, "power"),
        ({"power": math.nan}, "power"),
        ({"mixing": "constant", "m": 2}, "m"),
    ],
)
def test_mistakes_are_named(change, names):
    arguments = {"t": 0.5, "base_lr": 0.1, "mixing": "linear", "heads": "mixing", "backbone": "mixing", **change}
    with pytest.raises(ValueError, match=rf"^{names}: .*; allowed: ") as error:
        architecture_learning_rates(**arguments)
    assert "\n" not in str(error.value)
