"""Searches small enough to run many of: one step an epoch, one thread."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tailnas.data.device import DeviceImages, Normalisation
from tailnas.params import load_params
from tailnas.search.methods import method
from tailnas.search.task import SearchResult, SearchTask
from tailnas.seeding import torch_generator
from tailnas.training.loop import Loop

SMOKE = Path(__file__).parents[3] / "presets" / "smoke.yaml"
CLASSES = 3


def images(purpose: str, count: int) -> DeviceImages:
    """Noise in which class c is brighter by c; the classes shrink towards the tail."""
    generator = torch_generator(0, "tests", purpose)
    labels = torch.tensor([c for c in range(CLASSES) for _ in range(count >> c)])
    pixels = torch.randint(0, 120, (len(labels), 1, 16, 16), generator=generator) + 50 * labels.view(-1, 1, 1, 1)
    return DeviceImages(pixels.to(torch.uint8), labels)


@pytest.fixture
def make_task(tmp_path) -> Callable[..., SearchTask]:
    """make_task(seed=0, **settings): a search on 42 images; settings are those of the smoke preset unless given."""

    def make(seed: int = 0, pretrained=None, folder: Path = tmp_path, **settings) -> SearchTask:
        params = load_params(SMOKE)
        small = {"epochs": 2, "batch_size": 32, "initialisation": "scratch", **settings}
        weights = images("weights", 12)
        return SearchTask(
            settings=params.search.model_copy(update=small),
            space=params.space.model_copy(update={"channels": 2, "cells": 3}),
            weights=weights,
            architecture=images("architecture", 12),
            num_classes=CLASSES,
            normalisation=Normalisation.of(weights.images),
            pretrained=pretrained,
            seed=seed,
            loop=Loop("search test", folder / "search.pt", folder / "events", "none"),
        )

    return make


@pytest.fixture
def search() -> Callable[[str, SearchTask], SearchResult]:
    """search(name, task)"""
    return lambda name, task: method(name)(task)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
