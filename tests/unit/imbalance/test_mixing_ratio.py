"""Mixing ratio of the two branches (method: section 4)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnas.imbalance.mixing import MIXING_SCHEDULES, epoch_ratio, epoch_time, mixing_ratio
from tailnas.imbalance.settings import ConstantRatio, MovingRatio

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


@pytest.mark.parametrize("schedule", AT_QUARTERS)
def test_mixing_ratio_at_quarters(schedule):
    found = [mixing_ratio(schedule, quarter / 4) for quarter in range(5)]
    assert found == pytest.approx(AT_QUARTERS[schedule], abs=1e-15)


def test_every_schedule_has_a_section():
    """And an epoch's ratio is the schedule's at its time, or the constant of its section."""
    assert set(MIXING_SCHEDULES) == set(AT_QUARTERS)
    for schedule in AT_QUARTERS.keys() - {"constant"}:
        settings = MovingRatio(schedule=schedule, time="start")
        assert [epoch_ratio(settings, epoch, 4) for epoch in range(4)] == pytest.approx(AT_QUARTERS[schedule][:4])
    assert epoch_ratio(MovingRatio(schedule="linear", time="midpoint"), 1, 4) == 0.625
    assert epoch_ratio(ConstantRatio(schedule="constant", time="start", ratio=0.8), 3, 4) == 0.8


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


@pytest.mark.parametrize(
    ("change", "names"),
    [({"schedule": "sine"}, "schedule"), ({"t": 1.5}, "t"), ({"t": math.nan}, "t"), ({"m": -0.1}, "m")],
)
def test_mistakes_are_named(change, names):
    with pytest.raises(ValueError, match=rf"^{names}: .*; allowed: "):
        mixing_ratio(**{"schedule": "constant", "t": 0.5, **change})


def test_time_of_an_epoch():
    assert [epoch_time(epoch, 4, "midpoint") for epoch in range(4)] == [0.125, 0.375, 0.625, 0.875]
    assert [epoch_time(epoch, 4, "start") for epoch in range(4)] == [0, 0.25, 0.5, 0.75]
