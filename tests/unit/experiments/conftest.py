from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.small_search import make_task, one_thread  # noqa: F401 - fixtures

SMOKE = Path(__file__).parents[3] / "presets" / "smoke.yaml"


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: merged(values[key], changes[key]) for key in values.keys() & changes if isinstance(values[key], dict)}
    return {**values, **changes, **both}


@pytest.fixture
def preset(tmp_path) -> Callable[..., Path]:
    """preset(search={"training": {"epochs": 1}}): a file that differs so from the preset smoke, on one CPU thread."""
    numbers = count()

    def write(**changes: Any) -> Path:
        path = tmp_path / f"preset{next(numbers)}.yaml"
        small = merged(yaml.safe_load(SMOKE.read_text()), {"runtime": {"device": "cpu", "threads": 1}})
        path.write_text(yaml.safe_dump(merged(small, changes)))
        return path

    return write
