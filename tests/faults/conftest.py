"""The smallest study that has every stage, undisturbed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.project import Project

COMMANDS = {
    "dvc": ["dvc", "repro"],
    "study": ["python", "-m", "workflow.study", "--cores", "2", "--verbose"],
    "snakemake": ["snakemake", "--cores", "2"],
}
STAGES = {
    "validate": "validate",
    "watch": "watch@target",
    "fetch": "fetch@target",
    "split": "split@10-0",
    "pretrain": "pretrain@0",
    "search": "search@bbn_hls-10-0",
    "derive": "derive@bbn_hls-10-0",
    "retrain": "retrain@bbn_hls-10-0-0",
    "adapt": "adapt@bbn_hls-10-0-0",
    "calibrate": "calibrate@bbn_hls-10-0-0",
    "evaluate": "evaluate@bbn_hls-10-0-0",
    "report": "report",
}
SMALLEST = {
    "study.methods": ["bbn_hls"],
    "study.imbalance_factors": [10],
    "data.image_size": 16,
    "data.source.alphabet": "digits",
    "split.n_max": 40,
    "pretrain.training.epochs": 3,
    "pretrain.training.batch_size": 40,
    "search.training.epochs": 3,
    "retrain.training.epochs": 4,
}
CLASSES, IMAGES = 3, 60


@dataclass
class Undisturbed:
    """The study as it is when nothing goes wrong. taken: seconds of `make study` from nothing."""

    project: Project
    outputs: dict[str, str]
    taken: float


def draw_images(folder: Path) -> None:
    """One folder of noise per class, each of a brightness of its own."""
    noise = np.random.default_rng(0)
    for c in range(CLASSES):
        (folder / f"class-{c}").mkdir(parents=True)
        for i in range(IMAGES):
            pixels = noise.integers(60 * c, 60 * c + 120, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class-{c}" / f"{i}.png")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    draw_images(folder / "images")
    path = str(folder / "images")
    target = {"kind": "folder", "name": "own", "path": path, "test_per_class": 10, "seed": 0}
    target |= {"group": None, "unreadable": "refuse"}
    data = {"data.watch": {"target": path}, "data.target": target}
    project = Project.create(folder / "project", **SMALLEST, **data)
    started = time.monotonic()
    project.run(*COMMANDS["study"])
    return Undisturbed(project, project.outputs(), time.monotonic() - started)
