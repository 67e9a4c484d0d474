"""A folder of 120, 40, 9 and 4 images of one's own, to a report that says what can be told and what cannot."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from .project import Project

SIZES = {"Null": 120, "Eins ü": 40, "zwei": 9, "drei": 4}


def scarce_folder(root: Path) -> Path:
    digits = load_digits()
    for c, (name, count) in enumerate(SIZES.items()):
        (root / name).mkdir(parents=True)
        for row in (digits.target == c).nonzero()[0][:count]:
            Image.fromarray((digits.images[row] * 15.9).astype("uint8")).save(root / name / f"{row}.png")
    return root


def study_of(tmp_path: Path, test_per_class: object, **changes: object) -> Project:
    images = scarce_folder(tmp_path / "own images")
    given = {"test_per_class": test_per_class, "group": None, "unreadable": "refuse", "seed": 0}
    own = {
        "data.target": {"kind": "folder", "name": "own", "path": str(images), **given},
        "data.watch": {"target": str(images)},
        "study.methods": ["random"],
        "study.imbalance_factors": ["natural"],
        "split.profile": "natural",
        "split.class_order": "given",
        "split.n_max": None,
    }
    project = Project.create(tmp_path / "project", **{**own, **changes})
    project.snakemake()
    return project


def predictions(project: Project, run: str) -> list[dict[str, str]]:
    with (project.root / f"results/runs/{run}/evaluate/predictions.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["model"] == "adapted"]


def said(project: Project) -> str:
    page = (project.root / "results/report/index.html").read_text(encoding="utf-8")
    (path,) = re.findall(r"(results/runs/\S+/model\.safetensors) is the model to use", page)
    assert (project.root / path).is_file()
    return page


@pytest.mark.slow
def test_an_uneven_test_part_tells_what_it_can(tmp_path):
    project = study_of(tmp_path, {"fraction": 0.25, "least": 2})
    rows = predictions(project, "random-natural-0-0")
    assert Counter(row["label"] for row in rows) == {"Null": 30, "Eins ü": 10, "zwei": 2, "drei": 2}
    assert all((tmp_path / "own images" / row["file"]).is_file() for row in rows)
    assert all(row["file"].startswith(f"{row['label']}/") for row in rows)
    assert re.search(
        r"the recall of \d of 4 classes cannot be told.*drei \(2 test images: \d+ to \d+ %\)", said(project)
    )


@pytest.mark.slow
def test_folds_test_every_image_once(tmp_path):
    project = study_of(tmp_path, None, **{"split.folds": 3, "study.seeds": [0, 1, 2]})
    tested = [row for seed in range(3) for row in predictions(project, f"random-natural-{seed}-0")]
    images = tmp_path / "own images"
    assert Counter(row["file"] for row in tested) == Counter(
        path.relative_to(images).as_posix() for path in images.rglob("*.png")
    )
    page = said(project)
    assert "all folds pooled: every image is tested once" in page
    assert re.search(r"cannot be told.*drei \(4 test images: \d+ to \d+ %\)", page)
