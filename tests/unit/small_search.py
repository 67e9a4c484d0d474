"""Searches small enough to run many of: 21 images in each half, one step per epoch, one thread."""

import copy
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.foundation.extensions import extension
from tailnas.foundation.seeding import torch_generator
from tailnas.search.method import PACKAGE
from tailnas.search.settings import Bilevel
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.settings import Space
from tailnas.training.loop import InnerLoop, Loop
from tailnas.training.settings import NetworkTraining
from tailnas.validate.parameters import load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
CLASSES = 3


def images(purpose: str) -> DeviceImages:
    """Noise in which class c is brighter by c: 12, 6 and 3 images."""
    generator = torch_generator(0, "tests", purpose)
    labels = torch.tensor([c for c in range(CLASSES) for _ in range(12 >> c)])
    pixels = torch.randint(0, 120, (len(labels), 1, 16, 16), generator=generator) + 50 * labels.view(-1, 1, 1, 1)
    return DeviceImages(pixels.to(torch.uint8), labels)


class Killed(BaseException):
    """Stands for the end of the process."""


class FreeLoop(InnerLoop):
    """A loop that nobody interrupts: it keeps nothing and shows nothing, in all of its parts."""

    def __init__(self) -> None:
        super().__init__("search test", lambda: None)

    def part(self, name: str, section: str | None = None) -> Loop:
        part = copy.copy(self)
        part.section = section or self.section
        return part


class MortalLoop(Loop):
    """A loop whose process ends in the first step after `epochs` epochs, counted over all of its parts."""

    def __init__(self, folder: Path, epochs: int | None) -> None:
        super().__init__("search test", folder / "search.pt", folder / "events", "none")
        self.left = [float("inf") if epochs is None else epochs]

    def part(self, name: str) -> Loop:
        part = copy.copy(self)
        vars(part).update(vars(super().part(name)))
        return part

    def one_epoch(self, epoch, run_epoch, step_done, parts):
        def step() -> None:
            if not self.left[0]:
                raise Killed
            step_done()

        row = super().one_epoch(epoch, run_epoch, step, parts)
        self.left[0] -= 1
        return row


@pytest.fixture
def make_task(tmp_path) -> Callable[..., SearchTask]:
    """make_task(seed=0, epochs=2, order="second", ...): a search with changes to `training` and `bilevel`.

    folder: of its checkpoints; without one and without an end there are none. epochs_to_live: as MortalLoop has it.
    """
    fresh = (tmp_path / f"search{number}" for number in count())

    def loop(folder: Path | None, epochs_to_live: int | None) -> Loop:
        if folder is None and epochs_to_live is None:
            return FreeLoop()
        return MortalLoop(folder or next(fresh), epochs_to_live)

    def make(
        seed: int = 0,
        pretrained: dict[str, torch.Tensor] | None = None,
        folder: Path | None = None,
        epochs_to_live: int | None = None,
        **changes: Any,
    ) -> SearchTask:
        changes = {"epochs": 2, "initialisation": "scratch", **changes}

        def changed(section):
            return section.model_copy(
                update={key: changes.pop(key) for key in changes.keys() & type(section).model_fields}
            )

        weight_half = images("weights")
        training: NetworkTraining = changed(PARAMS.search.training)
        bilevel: Bilevel = changed(PARAMS.search.bilevel)
        assert not changes
        return SearchTask(
            training=training,
            augment_architecture_half=PARAMS.search.augment_architecture_half,
            bilevel=bilevel,
            space=Space(channels=2, cells=3),
            weight_half=weight_half,
            architecture_half=images("architecture"),
            num_classes=CLASSES,
            normalisation=Normalisation.of(weight_half.images),
            pretrained=pretrained,
            seed=seed,
            loop=loop(folder, epochs_to_live),
        )

    return make


def settings_of(method: str, **changes: Any) -> Any:
    """The method's own settings in params.yaml, with changes."""
    settings = PARAMS.search.method(method)
    return type(settings).model_validate({**dict(settings), **changes})


def search(method: str, task: SearchTask, **changes: Any) -> SearchResult:
    """The search of `method`, with changes to its own settings."""
    result: SearchResult = extension(PACKAGE, method, "method").search(task, settings_of(method, **changes))
    return result


def same(first: SearchResult, second: SearchResult) -> bool:
    """Whether two results agree bit by bit."""

    def equal(one, other) -> bool:
        one, other = one or {}, other or {}
        return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())

    networks = [result.network and result.network.state_dict() for result in (first, second)]
    plain = [(result.history, result.tables, result.cost, result.genotype) for result in (first, second)]
    return plain[0] == plain[1] and equal(first.alphas, second.alphas) and equal(*networks)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
