"""Checkpoints: whole or not at all, and nothing forgotten."""

import io
import random
import resource

import numpy as np
import pytest
import torch

from tailnas.foundation.whole_file import write_sealed
from tailnas.training.checkpoint import Checkpoint
from tailnas.training.supervised import GeneratorState


class Numbers:
    """A part whose state is what one sets."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def trained(steps: int, seed: int = 0):
    """A network, its two optimisers and a generator after some steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(seed)
    sgd = torch.optim.SGD(network[0].parameters(), lr=0.1, momentum=0.9, foreach=True)
    adam = torch.optim.Adam(network[2].parameters(), lr=0.1, betas=(0.5, 0.999), foreach=True)
    parts = {"network": network, "sgd": sgd, "adam": adam, "generator": GeneratorState(generator)}
    for _ in range(steps):
        network(torch.randn(5, 3, generator=generator)).square().sum().backward()
        for optimiser in (sgd, adam):
            optimiser.step()
            optimiser.zero_grad()
    return parts


def same(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_everything_comes_back_bit_by_bit(tmp_path):
    parts = trained(3)
    history = [{"epoch": 1, "loss": 0.1 + 0.2, "genotype": "{}"}, {"epoch": 2, "loss": 1e-300, "genotype": "é"}]
    Checkpoint(tmp_path / "a.pt", parts).save(history)
    other = trained(1, seed=7)
    assert Checkpoint(tmp_path / "a.pt", other).load() == history
    assert all(same(part.state_dict(), other[name].state_dict()) for name, part in parts.items())


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = trained(6)
    parts = trained(3)
    Checkpoint(tmp_path / "a.pt", parts).save([{"epoch": 1}])
    resumed = trained(0, seed=5)
    Checkpoint(tmp_path / "a.pt", resumed).load()
    generator, network = resumed["generator"].generator, resumed["network"]
    for _ in range(3):
        network(torch.randn(5, 3, generator=generator)).square().sum().backward()
        for name in ("sgd", "adam"):
            resumed[name].step()
            resumed[name].zero_grad()
    assert same(network.state_dict(), whole["network"].state_dict())


def test_the_global_generators_are_part_of_it(tmp_path):
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), np.random.randn(3).tolist(), random.random()  # noqa: NPY002

    with torch.random.fork_rng():
        np.random.randn(1)  # noqa: NPY002 - leaves a second normal number waiting
        random.gauss(0, 1)
        Checkpoint(tmp_path / "a.pt", {}).save([{"epoch": 1}])
        expected = draw()
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        Checkpoint(tmp_path / "a.pt", {}).load()
        assert draw() == expected


def test_no_checkpoint_is_an_empty_history(tmp_path):
    part = Numbers({"a": torch.ones(2)})
    assert Checkpoint(tmp_path / "none.pt", {"part": part}).load() == []
    assert torch.equal(part.state["a"], torch.ones(2))


DAMAGE = {
    "empty": lambda whole: b"",
    "text": lambda whole: b"no checkpoint",
    "first half": lambda whole: whole[: len(whole) // 2],
    "without its end": lambda whole: whole[:-10],
    "flipped bits": lambda whole: whole[:200] + bytes(byte ^ 255 for byte in whole[200:260]) + whole[260:],
    "zeros": lambda whole: bytes(len(whole)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_unreadable_checkpoint_starts_at_the_beginning(tmp_path, capsys, kind):
    path = tmp_path / "a.pt"
    Checkpoint(path, trained(2)).save([{"epoch": 1}])
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    parts, fresh = trained(0), trained(0)
    assert Checkpoint(path, parts).load() == []
    assert all(same(part.state_dict(), fresh[name].state_dict()) for name, part in parts.items())
    assert str(path) in capsys.readouterr().out


def test_no_flipped_bit_is_used(tmp_path):
    path = tmp_path / "a.pt"
    Checkpoint(path, trained(2)).save([{"epoch": 1}])
    sound, draws = path.read_bytes(), random.Random(0)
    for position in [0, 8 * len(sound) - 1, *(draws.randrange(8 * len(sound)) for _ in range(400))]:
        damaged = bytearray(sound)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert Checkpoint(path, {}).load() == [], position


def foreign_states():
    other = {"network": torch.nn.Linear(9, 9), "generator": GeneratorState(torch.Generator())}
    return {
        "another network": lambda path: Checkpoint(path, {**trained(1), **other}).save([{"epoch": 1}]),
        "a part is missing": lambda path: Checkpoint(path, {"sgd": trained(1)["sgd"]}).save([{"epoch": 1}]),
        "some other file": lambda path: sealed({"weights": torch.ones(2)}, path),
        "a list": lambda path: sealed([1, 2], path),
        "an object": lambda path: sealed(Numbers({}), path),
        "no seal": lambda path: torch.save({"history": [{"epoch": 1}]}, path),
    }


def sealed(value, path):
    content = io.BytesIO()
    torch.save(value, content)
    write_sealed(path, content.getvalue())


@pytest.mark.parametrize("kind", foreign_states())
def test_a_foreign_checkpoint_starts_at_the_beginning(tmp_path, kind):
    """And leaves every part as it was: half a state would be worse than none."""
    foreign_states()[kind](tmp_path / "a.pt")
    parts, fresh = trained(2), trained(2)
    assert Checkpoint(tmp_path / "a.pt", parts).load() == []
    assert all(same(part.state_dict(), fresh[name].state_dict()) for name, part in parts.items())


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    sealed({"history": [{"epoch": 1}], "parts": {}, "generators": Bomb()}, tmp_path / "a.pt")
    assert Checkpoint(tmp_path / "a.pt", {}).load() == []


def test_the_old_checkpoint_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.pt"
    part = Numbers({"a": torch.ones(2)})
    Checkpoint(path, {"part": part}).save([{"epoch": 1}])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            Checkpoint(path, {"part": part}).save([{"epoch": 1}, {"epoch": 2}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
