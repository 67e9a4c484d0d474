"""The installed packages, on which outputs depend."""

import re
import tomllib
from pathlib import Path

from tailnas.validate.watched import PACKAGES, packages

REPOSITORY = Path(__file__).parents[3]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(requirements):
    return {re.split(r"[\[><=]", name)[0] for name in requirements} - {"tailnas"}


def test_every_package_that_computes_is_named():
    required = named([*PROJECT["dependencies"], *EXTRAS["report"], *EXTRAS["pipeline"]])
    assert required - set(PACKAGES) == {"ruamel.yaml", "pydantic", "tensorboard", "tqdm", "dvc", "snakemake"}
    assert [line.split()[0] for line in packages().splitlines()] == ["python", *PACKAGES]


def test_the_lock_holds_what_the_stages_take_and_the_bare_library_has_no_engine():
    locked = set(re.findall(r"^([\w.-]+)==", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE))
    wanted = named([*PROJECT["dependencies"], *EXTRAS["report"], *EXTRAS["pipeline"]])
    assert {name.replace(".", "-") for name in wanted} <= locked
    assert not {"dvc", "snakemake"} & named(PROJECT["dependencies"])
    assert all("==" in name for name in EXTRAS["export"])
