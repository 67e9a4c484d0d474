"""What the jobs compute on: the long-tailed photographs, or noise in their place, and searches on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_day.results import Day
from benchmarks.photographs import unpack
from tailnas.batches.device_images import DeviceImages, Normalisation
from tailnas.data.dataset import Dataset
from tailnas.data.split_file import Split
from tailnas.foundation.seeding import numpy_generator
from tailnas.search.task import SearchTask
from tailnas.space.device import prepare
from tailnas.split.long_tail import class_counts, long_tailed_split
from tailnas.training.loop import Loop
from tailnas.validate.parameters import Params
from tailnas.validate.presets import load_preset, preset_file

CLASSES = 10
LARGEST_CLASS, TEST_PER_CLASS = 5000, 1000
PRESET = "cifar10-lt"


def imbalance_factor(day: Day) -> int:
    """100; in a miniature less, so that every half has two images of each class."""
    return 10 if day.miniature else 100


def preset(day: Day, name: str = PRESET) -> Params:
    """The parameters of a preset; in a miniature with short trainings of small networks."""
    params = load_preset(preset_file(name))
    if not day.miniature:
        return params
    few = {"epochs": 2, "batch_size": 8}
    search = params.search.model_copy(update={"training": params.search.training.model_copy(update=few)})
    retrain = params.retrain.model_copy(update={"training": params.retrain.training.model_copy(update=few)})
    return params.model_copy(
        update={
            "space": params.space.model_copy(update={"channels": 2, "cells": 3}),
            "search": search,
            "retrain": retrain,
        }
    )


def photographs(day: Day) -> Dataset:
    """CIFAR-10-LT with its whole test part, or noise of the same size, in which class c is brighter by 10 c."""
    return noise(day) if day.photographs is None else unpack(day.photographs)


def noise(day: Day, *role: str) -> Dataset:
    """Long-tailed, of other images for each role. Class c is brighter by 10 c."""
    largest, test = (40, 2) if day.miniature else (LARGEST_CLASS, TEST_PER_CLASS)
    counts = class_counts(largest, CLASSES, imbalance_factor(day))
    draw = numpy_generator(0, "gpu day", "noise", *role)

    def part(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(CLASSES), counts)
        images = draw.integers(0, 150, (len(labels), 3, 32, 32), dtype=np.uint8)
        return images + (10 * labels).astype(np.uint8)[:, None, None, None], labels

    classes = tuple(f"class {c}" for c in range(CLASSES))
    return Dataset(*part(counts), *part([test] * CLASSES), classes, "noise", "folder")


def long_tail(day: Day, data: Dataset, seed: int) -> Split:
    """CIFAR-10-LT: all of the photographs, in other halves for each seed."""
    return long_tailed_split(
        data.train_labels, len(data.classes), imbalance_factor(day), "natural", "given", None, seed
    )


def drawn(data: Dataset, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As many images of each class, drawn with replacement: the size of a balanced data set, not its variety."""
    draw = numpy_generator(seed, "gpu day", "drawn")
    of_class = [np.flatnonzero(data.train_labels == c) for c in range(len(data.classes))]
    rows = np.concatenate([draw.choice(rows, images // len(of_class)) for rows in of_class])
    return data.train_images[rows], data.train_labels[rows]


def on_device(images: np.ndarray, labels: np.ndarray, device: torch.device) -> DeviceImages:
    return DeviceImages(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))


def search_task(day: Day, params: Params, halves: list[DeviceImages], seed: int, loop: Loop) -> SearchTask:
    """A search from random weights with the settings of `params`, its steps recorded where they can be."""
    return SearchTask(
        training=params.search.training,
        augment_architecture_half=params.search.augment_architecture_half,
        bilevel=params.search.bilevel.model_copy(update={"initialisation": "scratch"}),
        space=params.space,
        weight_half=halves[0],
        architecture_half=halves[1],
        num_classes=CLASSES,
        normalisation=Normalisation.of(halves[0].images),
        pretrained=None,
        seed=seed,
        loop=loop,
        cuda_graph=True,
    )


def ready(day: Day, precision: str = "float32") -> torch.device:
    """The device, with the arithmetic of `precision`."""
    return prepare(day.device, 1, precision)


def checkpoint(day: Day, name: str) -> Path:
    return day.folder / "checkpoints" / f"{name}.pt"
