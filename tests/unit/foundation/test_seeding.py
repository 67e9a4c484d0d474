"""Random streams: one for each purpose, the same everywhere, and none of them the global one."""

import numpy as np
import torch

from tailnas.foundation.seeding import numpy_generator, seed_for, torch_generator


def test_seeds_are_the_same_on_every_machine():
    assert seed_for(0) == 4761921975702974394
    assert seed_for(3, "split", "images", 7) == 6349004132766115476


def test_every_purpose_has_a_stream_of_its_own():
    purposes = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (1, "a")]
    assert len({seed_for(*purpose) for purpose in purposes}) == len(purposes)
    for draw in (
        lambda purpose: torch.rand(2, generator=torch_generator(0, purpose)).tolist(),
        lambda purpose: numpy_generator(0, purpose).random(2).tolist(),
    ):
        assert draw("a") == draw("a") != draw("b")


def test_the_global_generators_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    torch.rand(3, generator=torch_generator(0, "a"))
    numpy_generator(0, "a").random(3)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
