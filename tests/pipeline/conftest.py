"""The smoke study, computed once with each engine; tests copy the folders that they change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from tailnas.foundation.extensions import names

from .project import PATIENCE, Project

STUDY = {
    # one batch per epoch where a super-network is trained, and epochs enough for a kill to land between two of them
    "study.imbalance_factors": [10],
    "data.source.alphabet": "digits",
    "split.n_max": 40,
    "pretrain.training.batch_size": 128,
    "search.training.batch_size": 128,
    "pretrain.training.epochs": 4,
    "search.training.epochs": 4,
    "retrain.training.epochs": 6,
}

LONG = 6 * PATIENCE
"""Patience with all methods at once."""
METHODS = list(names("tailnas.methods"))
FACTOR = 2
"""With all methods at once: 8 to 4 images of a class, the fewest that a split takes."""
EVERY_METHOD = {
    "study.methods": METHODS,
    "study.imbalance_factors": [FACTOR],
    "data.source.alphabet": "digits",
    "split.n_max": 8,
    "pretrain.single_path": {"epochs": 1, "learning_rate": 0.02},
    "search.training.epochs": 1,
    "search.imb_nas.candidates.count": 3,
    "search.random_best.epochs": 1,
    "retrain.training.epochs": 1,
    "adapt.training.epochs": 1,
}


@dataclass(frozen=True)
class Study:
    """The same study computed by DVC and, from nothing, by Snakemake."""

    dvc: Project
    snakemake: Project


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    by_dvc, by_snakemake = (Project.create(folder / name, **STUDY) for name in ("dvc", "snakemake"))
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(by_dvc.engine, "dvc"), pool.submit(by_snakemake.engine, "snakemake")]:
            future.result()
    return Study(by_dvc, by_snakemake)


@pytest.fixture
def computed_by(study: Study, tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    """computed_by("dvc" or "snakemake"): a copy of the study that this engine computed, with its cache."""
    copies = []

    def copy(engine: str) -> Project:
        copies.append(getattr(study, engine).copy(tmp_path / engine))
        return copies[-1]

    yield copy
    for project in copies:
        project.end_processes()


@pytest.fixture
def computed(computed_by: Callable[[str], Project]) -> Project:
    """A copy of the study that DVC computed, with its cache."""
    return computed_by("dvc")


@pytest.fixture(scope="session")
def every_method_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """EVERY_METHOD, and a small network of random weights that stands for a pretrained one."""
    path = tmp_path_factory.mktemp("weights") / "shufflenet.safetensors"
    torch.manual_seed(0)
    save_file(models.get_model("shufflenet_v2_x0_5", weights=None).state_dict(), path)
    frozen = {
        "architecture": "shufflenet_v2_x0_5",
        "weights": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "image_size": 32,
    }
    quick = {"calibrate.networks": 0}  # its retraining has nothing to do with the method
    return EVERY_METHOD | quick | {f"search.frozen.{key}": value for key, value in frozen.items()}


@pytest.fixture(scope="session")
def every_method(tmp_path_factory: pytest.TempPathFactory, every_method_keys: dict[str, Any]) -> Project:
    """Every search method at its smallest, from nothing, by Snakemake."""
    project = Project.create(tmp_path_factory.mktemp("methods") / "project", **every_method_keys)
    project.run("snakemake", "--cores", "2", patience=LONG)  # two minutes on two free cores
    return project
