"""The commands of README and docs: the tutorials' word for word on a small study, the others by their names."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tailnas.export.settings import missing_packages
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.parameters import Params

from .photographs import CLASSES, LARGEST, MODES, SMALLEST, photographs
from .project import REPOSITORY, Project
from .test_extending import apply, change

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")])
TUTORIALS = ("own-images.md", "few-images.md")
SHORT = {"search.training.batch_size": 8, "retrain.training.batch_size": 8}
"""What else the smoke study needs for so few images."""


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and the text of every block of code, from top to bottom."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_calls_is_there(page):
    """Modules, make's targets, presets and the pages that it links to."""
    text = page.read_text()
    for module in set(re.findall(r"python -m ((?:tailnas|benchmarks|workflow|stages)[\w.]*)", text)):
        assert find_spec(module), module
    for module, words in re.findall(r"^from (tailnas[\w.]*) import (.+)$", text, flags=re.MULTILINE):
        assert all(hasattr(import_module(module), word.split()[0]) for word in words.split(", ")), (module, words)
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    commands = "\n".join(code for language, code in blocks(text) if language == "sh")
    assert set(re.findall(r"^make ([a-z-]+)", commands, flags=re.MULTILINE)) <= set(targets)
    for preset in set(re.findall(r"presets/([\w-]+\.yaml)", text)):
        assert (REPOSITORY / "presets" / preset).is_file(), preset
    for link in re.findall(r"\]\(((?!https?:|#)[^)#]+)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md"], ids=lambda page: page.name)
def test_parameters_of_a_page_can_be_pasted(page):
    """No key is missing, none is unknown; whether the folders are there is another matter."""
    document = read_yaml(REPOSITORY / "params.yaml")
    for language, code in blocks(page.read_text()):
        if language == "yaml":
            changes = yaml.safe_load(code)
            change(document, {"data": changes} if "target" in changes else changes)
            Params.model_validate(document)


def run_page(project: Project, page: str, only: str = "", **names: str) -> str:
    """Apply a page's blocks of parameters and run its commands, those that contain `only`; returns what they said.

    names: what stands on the page, and what it is called here. Blocks that need ONNX are left out where it is missing.
    """
    said = ""
    for language, code in blocks((REPOSITORY / page).read_text()):
        if only not in code or ("onnx" in code and missing_packages()):
            continue
        for name, own in names.items():
            code = code.replace(name, own)
        if language == "yaml":
            apply(project, yaml.safe_load(code))
        elif language in ("sh", "python"):
            said += project.run(*(["bash", "-e", "-c"] if language == "sh" else ["python", "-c"]), code).stdout
    return said


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_as_it_stands(tmp_path, name):
    project = Project.create(tmp_path / "project", **SHORT)
    project.run("cp", "-r", str(REPOSITORY / "benchmarks"), ".")
    said = run_page(project, f"docs/{name}")
    if name == "own-images.md":
        assert " on this machine, " in said and "report: results/report/index.html" in said
        assert len((project.root / "predictions.csv").read_text().splitlines()) > 500
        for command in quick_commands():
            project.run("bash", "-c", command)
    else:
        assert re.search(
            r"\n200 more images of class digit 5: expected recall 0\.\d\d \[\d\.\d\d, \d\.\d\d\]; with its 4", said
        )
        assert (project.root / "collection/plan.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["drawn", "CIFAR-10"])
def test_photographs_of_every_form_go_from_a_look_to_predictions_by_the_pages_commands(tmp_path, kind):
    unpacked = os.environ.get("TAILNAS_CIFAR10_IMAGES")
    if kind == "CIFAR-10" and not unpacked:
        pytest.skip(
            "the same on real photographs, which are no part of the repository (drawn ones are tested everywhere): "
            "TAILNAS_CIFAR10_IMAGES names a folder of CIFAR-10's train/<class>/*.png"
        )
    project = Project.create(tmp_path / "project", **SHORT, **{"data.image_size": 32, "data.channels": 3})
    images, digits = project.root / "my-images", images_of("docs/own-images.md")
    count = photographs(images, Path(unpacked) if kind == "CIFAR-10" else None)
    said = run_page(project, "docs/own-images.md", **{digits: ":"})
    assert f"my-images: {count} images in {CLASSES} classes, imbalance factor {LARGEST / SMALLEST:.3g}" in said
    assert all(f"{mode} " in re.search(r"modes: (.*)", said)[1] for mode in MODES)
    assert "\nGröße " in said and "no whole image" not in said

    with (project.root / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {str(path.relative_to(project.root)) for path in files_of(images)}
    assert len(rows) == count and not any(row["problem"] for row in rows)
    assert {row["prediction"] for row in rows} <= {path.name for path in images.iterdir()}

    model = project.root / "results/runs/bbn_hls-natural-0-0/calibrate/model.safetensors"
    shutil.copy(model, project.root)
    for name in ("a.jpg", "b.png"):
        shutil.copy(next(iter(sorted(images.rglob(f"*{name[1:]}")))), project.root / name)
    if not missing_packages():
        card = (project.root / "results/exports/onnx-bbn_hls-natural-0-0/model_card.md").read_text(encoding="utf-8")
        assert "| Größe " in card
        shutil.copy(project.root / "results/exports/onnx-bbn_hls-natural-0-0/model.onnx", project.root)
    called = {"tailnas-predict": "python -m tailnas.predict", " photographs ": " my-images "}
    for only in ("tailnas-predict model", "predict_files", "InferenceSession"):
        run_page(project, "docs/predict.md", only, **called)
    named = {"-30-0-0": "-natural-0-0", "raw/digits": "raw/my-images"}
    assert "Größe" in run_page(project, "README.md", "tailnas.load_model", **named)
    assert "Größe" in run_page(project, "docs/data.md", "predictions.csv", **named)


@pytest.mark.slow
def test_options_that_a_page_names_exist():
    """Of what takes hours, and of what only a terminal or the network can answer, at least the spelling."""
    wanted: dict[str, set[str]] = {}
    for text in map(Path.read_text, PAGES):
        for module, rest in re.findall(r"python -m ((?:tailnas|benchmarks|workflow)[\w.]*)([^\n`]*)", text):
            if options := re.findall(r"(?<= )--[a-z-]+", rest):
                wanted.setdefault(module, set()).update(options)
    for module, options in wanted.items():
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (module, done.stderr)
        assert options <= set(re.findall(r"--[a-z-]+", done.stdout)), module


def images_of(page: str) -> str:
    """The block of a page that makes a folder of images."""
    (made,) = [code for _, code in blocks((REPOSITORY / page).read_text()) if "load_digits" in code]
    return made


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


QUICK = {
    "README.md": ("dvc repro", "snakemake --cores 8", "dvc exp show --only-changed"),
    "docs/engines.md": ("snakemake --cores 8 -n",),
}
"""Commands that a finished study answers at once; those of the README's sentences are named in `quick_commands`."""


def quick_commands() -> list[str]:
    for page, wanted in QUICK.items():
        lines = [
            line
            for language, code in blocks((REPOSITORY / page).read_text())
            if language == "sh"
            for line in code.splitlines()
        ]
        found = {" ".join(shlex.split(line, comments=True)) for line in lines}
        assert found.issuperset(wanted), page
    return [*(line for lines in QUICK.values() for line in lines), "dvc metrics show", "dvc plots show", "dvc dag"]
