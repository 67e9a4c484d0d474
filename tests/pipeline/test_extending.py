"""The examples of docs/extending.md, word for word, in a scratch copy: what they touch, what goes stale, and a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from .project import REPOSITORY, Project

TEXT = (REPOSITORY / "docs" / "extending.md").read_text()


@dataclass(frozen=True)
class Example:
    """One section of the page: the file, its content, what stands in params.yaml anyway, and what uses it."""

    file: str
    code: str
    section: dict[str, Any]
    use: dict[str, Any]


def example(title: str) -> Example:
    text = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    (file,) = re.findall(r"^`(tailnas/\w+/\w+\.py)`:$", text, flags=re.MULTILINE)
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    changes = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)]
    return Example(file, code, changes[0] if len(changes) == 2 else {}, changes[-1])


def dotted(changes: dict[str, Any], given: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`changes` as dotted keys, down to where `given` has no section of that name or another kind of it."""
    found: dict[str, Any] = {}
    for key, value in changes.items():
        below = given.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and not {"name", "method", "kind"} & value.keys():
            found |= dotted(value, below, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


USERS = {
    "A loss": {"retrain", "adapt", "calibrate"},
    "A search method": {"search"},
    "A head adaptation": {"adapt", "calibrate"},
    "A kind of data": {"fetch", "watch"},
}
"""Each example, and the stages that DVC finds changed once it is used."""
AFTER_SEARCH = {"derive", "retrain", "adapt", "calibrate", "evaluate", "report"}
NEW = {"A search method": AFTER_SEARCH, "A kind of data": {"split", "search"} | AFTER_SEARCH}
"""Stages of new runs, which were never computed, and the report of another study."""


def apply(project: Project, changes: dict[str, Any]) -> None:
    path = project.root / "params.yaml"
    document = yaml.safe_load(path.read_text())
    change(document, changes)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def change(document: dict[str, Any], changes: dict[str, Any]) -> None:
    """Set in `document` what the block of a page has."""
    for key, value in dotted(changes, document).items():
        *above, last = key.split(".")
        section = document
        for part in above:
            section = section[part]
        section[last] = value


def changed(project: Project) -> set[str]:
    return set(json.loads(project.dvc("status", "--json")))


def touched(project: Project) -> set[str]:
    """Files of the checkout that are new or changed since its start."""
    return {line[3:] for line in project.run("git", "status", "--short").stdout.splitlines()}


def test_the_examples_make_nothing_stale_but_their_users_and_run(computed):
    examples = {title: example(title) for title in USERS}
    before = touched(computed)
    for shown in examples.values():
        (computed.root / shown.file).write_text(shown.code)
        apply(computed, shown.section)
        more = touched(computed) - before
        assert more - {"params.yaml"} == {shown.file}
        before |= more
    assert changed(computed) == {"validate"}, "four files more and a section more"

    labels = np.repeat(np.arange(4), 30)
    images = np.random.default_rng(0).integers(0, 256, (120, 20, 24, 3), np.uint8)
    np.savez(
        computed.root / "mine.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )
    params = (computed.root / "params.yaml").read_text()
    for title, shown in examples.items():
        apply(computed, shown.use)
        found = {name.split("@")[0] for name in changed(computed)}
        assert found - NEW.get(title, set()) == USERS[title] | {"validate"}, title
        (computed.root / "params.yaml").write_text(params)

    for shown in examples.values():
        apply(computed, shown.use)
    computed.edit({"split.n_max": None, "study.imbalance_factors": [5]})
    computed.snakemake()
    assert computed.is_clean()
    computed.edit({"search.darts_sampled.sampler": "reversed"})
    assert changed(computed) == {"validate", "search@darts_sampled-5-0"}
    computed.edit({"search.darts_sampled.sampler": "square_root", "retrain.loss.epsilon": 2.0})
    users = {f"{stage}@darts_sampled-5-0-0" for stage in ("retrain", "adapt", "calibrate")}
    assert changed(computed) == {"validate", *users}


@pytest.mark.parametrize("title", USERS)
def test_an_example_passes_the_house_rules(title, tmp_path):
    shown = example(title)
    file = tmp_path / Path(shown.file).name
    file.write_text(shown.code)
    for check in (["check"], ["format", "--check"]):
        config = ["--config", str(REPOSITORY / "pyproject.toml")]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *config, str(file)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
