"""Mixing ratios and learning rates of the architecture components (method: sections 4 and 5)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnas.imbalance.mixing import MIXING_SCHEDULES, epoch_time, mixing_ratio
from tailnas.params import Search
from tailnas.search.schedules import (
    BACKBONE_SCHEDULES,
    HEAD_SCHEDULES,
    architecture_learning_rates,
)

ROOT = math.sqrt(0.5)
AT_QUARTERS = {
    "linear": [1, 0.75, 0.5, 0.25, 0],
    "parabolic": [1, 0.9375, 0.75, 0.4375, 0],
    "cosine": [1, (1 + ROOT) / 2, 0.5, (1 - ROOT) / 2, 0],
    "smooth": [1, 0.875, 0.5, 0.125, 0],
    "constant": [0.5, 0.5, 0.5, 0.5, 0.5],
    "mirrored": [1, 0.5, 0, 0.5, 1],
}
SYMMETRIC = ("linear", "cosine", "smooth")
units = st.floats(0, 1)


def choices(field):
    return set(Search.model_fields[field].annotation.__args__)


def test_parameters_offer_exactly_these_schedules():
    assert choices("mixing_schedule") == set(MIXING_SCHEDULES) == set(AT_QUARTERS)
    assert choices("hls_heads") == set(HEAD_SCHEDULES)
    assert choices("hls_backbone") == set(BACKBONE_SCHEDULES)


@pytest.mark.parametrize("schedule", MIXING_SCHEDULES)
def test_mixing_ratio_at_quarters(schedule):
    found = [mixing_ratio(schedule, quarter / 4) for quarter in range(5)]
    assert found == pytest.approx(AT_QUARTERS[schedule], abs=1e-15)


def test_constant_is_the_number_asked_for():
    assert mixing_ratio("constant", 0.3, m=0.8) == 0.8


@given(t=units, schedule=st.sampled_from(SYMMETRIC))
def test_symmetric_schedules_give_both_heads_the_same_weight(t, schedule):
    assert mixing_ratio(schedule, t) + mixing_ratio(schedule, 1 - t) == pytest.approx(1, abs=1e-12)


@given(t=units)
def test_mirrored_is_the_same_from_both_ends(t):
    assert mixing_ratio("mirrored", t) == pytest.approx(mixing_ratio("mirrored", 1 - t), abs=1e-12)


def test_the_parabola_is_not_symmetric():
    assert mixing_ratio("parabolic", 0.25) + mixing_ratio("parabolic", 0.75) > 1.3
    area = sum(mixing_ratio("parabolic", (i + 0.5) / 1000) for i in range(1000)) / 1000
    assert area == pytest.approx(2 / 3, abs=1e-6)


@given(t=units, schedule=st.sampled_from(MIXING_SCHEDULES), m=units)
def test_mixing_ratio_is_a_share(t, schedule, m):
    assert 0 <= mixing_ratio(schedule, t, m=m) <= 1


@given(schedule=st.sampled_from([*SYMMETRIC, "parabolic"]), pair=st.tuples(units, units))
def test_the_class_branch_gains(schedule, pair):
    assert mixing_ratio(schedule, min(pair)) >= mixing_ratio(schedule, max(pair)) - 1e-15


@given(
    t=units,
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
    with pytest.raises(ValueError, match=rf"^{names}: .*allowed: ") as error:
        architecture_learning_rates(**arguments)
    assert "\n" not in str(error.value)


def test_time_of_an_epoch():
    assert [epoch_time(epoch, 4, "midpoint") for epoch in range(4)] == [0.125, 0.375, 0.625, 0.875]
    assert [epoch_time(epoch, 4, "start") for epoch in range(4)] == [0, 0.25, 0.5, 0.75]
