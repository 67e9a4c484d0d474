"""The commands of README and docs: the tutorials' word for word on a small study, the others by their names."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec

import pytest
import yaml

from .project import REPOSITORY, Project
from .test_extending import apply

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
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    commands = "\n".join(code for language, code in blocks(text) if language == "sh")
    assert set(re.findall(r"^make ([a-z-]+)", commands, flags=re.MULTILINE)) <= set(targets)
    for preset in set(re.findall(r"presets/([\w-]+\.yaml)", text)):
        assert (REPOSITORY / "presets" / preset).is_file(), preset
    for link in re.findall(r"\]\(((?!https?:|#)[^)#]+)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_as_it_stands(tmp_path, name):
    project = Project.create(tmp_path / "project", **SHORT)
    project.run("cp", "-r", str(REPOSITORY / "benchmarks"), ".")
    said = ""
    for language, code in blocks((REPOSITORY / "docs" / name).read_text()):
        if language == "yaml":
            apply(project, yaml.safe_load(code))
        elif language == "sh":
            said += project.run("bash", "-e", "-c", code).stdout
    if name == "own-images.md":
        assert " on this machine, " in said and "report: results/report/index.html" in said
        assert len((project.root / "predictions.csv").read_text().splitlines()) > 500
        for command in of_the_readme():
            project.run("bash", "-c", command)
    else:
        assert re.search(
            r"\n200 more images of class digit 5: expected recall 0\.\d\d \[\d\.\d\d, \d\.\d\d\]; with its 4", said
        )
        assert (project.root / "collection/plan.png").stat().st_size > 10_000


def of_the_readme() -> list[str]:
    """Commands of the README's own that a finished study answers at once."""
    text = (REPOSITORY / "README.md").read_text()
    wanted = ("dvc repro", "snakemake --cores 8", "dvc exp show --only-changed")
    found = [
        shlex.split(line, comments=True)
        for language, code in blocks(text)
        if language == "sh"
        for line in code.splitlines()
    ]
    kept = [" ".join(words) for words in found if " ".join(words) in wanted]
    assert set(kept) == set(wanted)
    return [*dict.fromkeys(kept), "dvc metrics show", "dvc plots show", "dvc dag"]
