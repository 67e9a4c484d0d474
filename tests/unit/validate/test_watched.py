"""The installed packages, on which outputs depend."""

import re
import tomllib
from pathlib import Path

from tailnas.validate.watched import PACKAGES, packages


def test_every_package_that_computes_is_named():
    document = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    required = {re.split(r"[><=]", name)[0] for name in document["project"]["dependencies"]}
    assert required - set(PACKAGES) == {"ruamel.yaml", "pydantic", "tensorboard", "tqdm"}
    assert [line.split()[0] for line in packages().splitlines()] == ["python", *PACKAGES]
