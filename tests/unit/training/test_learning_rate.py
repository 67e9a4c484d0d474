"""The learning rate of every epoch against the rules of the code that published results come from."""

import math

import pytest

from tailnas.training.learning_rate import epoch_learning_rate
from tailnas.training.settings import Training

LDAM = {
    "schedule": {"name": "steps", "at": [0.8, 0.9], "factor": 0.01},
    "warmup": {"part": 0.025, "start": 0.0},
}
BBN = {
    "schedule": {"name": "steps", "at": [0.6, 0.8], "factor": 0.01},
    "warmup": {"part": 0.03, "start": 0.2},
}
COSINE = {"schedule": {"name": "cosine", "minimum": 0.001}, "warmup": None}


def rates(epochs: int, learning_rate: float, **keys) -> list[float]:
    document = {"epochs": epochs, "batch_size": 2, "learning_rate": learning_rate, "momentum": 0.9, "nesterov": False}
    training = Training.model_validate({**document, "weight_decay": 0.0, **keys})
    return [epoch_learning_rate(training, epoch) for epoch in range(epochs)]


def ldam(epoch: int) -> float:
    """Epochs from 1: a fifth more in each of the first five, a hundredth after 160, another after 180."""
    if epoch <= 5:
        return 0.1 * epoch / 5
    return 0.1 * (0.0001 if epoch > 180 else 0.01 if epoch > 160 else 1)


def bbn(epoch: int) -> float:
    """Epochs from 0: from a third on linearly, all of it from epoch 5 on; a hundredth from 120 and from 160 on."""
    rise = 1 / 3 * (1 - epoch / 5) + epoch / 5 if epoch < 5 else 1
    return 0.1 * rise * 0.01 ** ((epoch >= 120) + (epoch >= 160))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (LDAM, [ldam(epoch) for epoch in range(1, 201)]),
        (BBN, [bbn(epoch) for epoch in range(200)]),
        (COSINE, [0.001 + 0.099 * (1 + math.cos(math.pi * epoch / 200)) / 2 for epoch in range(200)]),
    ],
    ids=["LDAM-DRW", "BBN", "DARTS"],
)
def test_every_epoch_of_200(keys, expected) -> None:
    assert rates(200, 0.1, **keys) == pytest.approx(expected, rel=1e-12)


def test_numbers_by_hand() -> None:
    found = rates(200, 0.1, **LDAM)
    assert [found[epoch] for epoch in (0, 1, 4, 5, 159, 160, 179, 180, 199)] == pytest.approx(
        [0.02, 0.04, 0.1, 0.1, 0.1, 0.001, 0.001, 0.00001, 0.00001]
    )
    assert rates(4, 0.8, schedule={"name": "cosine", "minimum": 0.0}, warmup={"part": 0.5, "start": 0.5}) == (
        pytest.approx([0.8 * 0.75, 0.4 * (1 + math.cos(math.pi / 4)), 0.4, 0.4 * (1 - math.cos(math.pi / 4))])
    )


@pytest.mark.parametrize("epochs", range(1, 401))
def test_steps_come_after_as_many_epochs_as_they_say(epochs) -> None:
    """k / epochs, written out as a decimal number, is after k epochs; no rounding makes it one epoch more."""
    for k in {1, epochs // 3, 7 * epochs // 10, epochs - 1} & set(range(1, epochs)):
        keys = {"schedule": {"name": "steps", "at": [k / epochs], "factor": 0.5}, "warmup": None}
        assert rates(epochs, 1.0, **keys) == [1.0] * k + [0.5] * (epochs - k)


def test_a_training_of_one_epoch_is_at_full_rate_where_warm_up_is_a_part_of_it() -> None:
    assert rates(1, 0.1, **LDAM) == [0.1]


@pytest.mark.parametrize("at", [[], [0.0], [1.0], [0.9, 0.8], [0.8, 0.8]])
def test_steps_that_are_none(at) -> None:
    with pytest.raises(ValueError):
        rates(10, 0.1, schedule={"name": "steps", "at": at, "factor": 0.1}, warmup=None)
