"""Parameters with some of them changed, and what is said of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.validate.parameters import Params, checked_params

DEFAULT = read_yaml(Path(__file__).parents[3] / "presets" / "default.yaml")


@pytest.fixture
def load() -> Callable[..., Params]:
    """Checks presets/default.yaml with dotted keys set, or taken away where the value is `...`."""

    def load(changes: dict[str, Any]) -> Params:
        document = copy.deepcopy(DEFAULT)
        for key, value in changes.items():
            *sections, last = key.split(".")
            node = document
            for section in sections:
                node = node[section]
            if value is ...:
                del node[last]
            else:
                node[last] = value
        return checked_params(document, "params.yaml")

    return load


@pytest.fixture
def complaints(load: Callable[..., Params]) -> Callable[..., list[str]]:
    """The lines that are said of such changes, without the name of the file before each."""

    def complaints(changes: dict[str, Any]) -> list[str]:
        with pytest.raises(UserError) as error:
            load(changes)
        lines = str(error.value).splitlines()
        assert all(line.startswith("params.yaml: ") for line in lines)
        return [line.removeprefix("params.yaml: ") for line in lines]

    return complaints
