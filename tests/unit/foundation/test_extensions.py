"""Extensions: found by the names of their files, with the settings that these declare."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from tailnas.adapt.settings import ADAPT
from tailnas.fetch.settings import SOURCE
from tailnas.foundation.errors import UserError
from tailnas.foundation.extensions import Chosen, NameOf, OneOf, extension, names
from tailnas.foundation.settings import Section
from tailnas.losses import focal, ldam
from tailnas.validate.messages import choices

ROOT = Path(__file__).parents[3]
LOSS = TypeAdapter(Annotated[Chosen, OneOf("tailnas.losses", by="name")])


@pytest.mark.parametrize("package", ["sources", "methods", "losses", "heads"])
def test_every_file_is_an_extension_with_settings_of_its_own(package):
    found = names(f"tailnas.{package}")
    assert list(found) == sorted(
        path.stem for path in (ROOT / "tailnas" / package).glob("*.py") if path.name != "__init__.py"
    )
    for name in found:
        settings = extension(f"tailnas.{package}", name, "key").Settings
        assert issubclass(settings, Section)
        assert all(field.is_required() for field in settings.model_fields.values()), "nothing has a default"


@pytest.mark.parametrize("name", ["hinge", "__init__", "../losses/focal", "Focal", ""])
def test_a_file_that_is_not_there_is_one_line(name):
    with pytest.raises(UserError) as error:
        extension("tailnas.losses", name, "retrain.loss.name")
    allowed = ", ".join(names("tailnas.losses"))
    assert str(error.value) == f"retrain.loss.name: {name!r}; allowed: {allowed}"


def test_a_section_becomes_the_file_that_it_names_with_its_settings():
    chosen = LOSS.validate_python({"name": "focal", "gamma": 1.5})
    assert chosen.name == "focal" and chosen.module is focal
    assert isinstance(chosen.settings, focal.Settings) and chosen.settings.gamma == 1.5
    other = LOSS.validate_python({"name": "ldam", "margin": 0.5, "scale": 30.0})
    assert isinstance(other.settings, ldam.Settings)


@pytest.mark.parametrize(
    ("section", "location", "kind"),
    [
        ({"name": "hinge"}, (), "no_such_extension"),
        ({"gamma": 1.0}, (), "no_such_extension"),
        ("focal", (), "no_such_extension"),
        (None, (), "no_such_extension"),
        ({"name": "focal"}, ("gamma",), "missing"),
        ({"name": "focal", "gamma": -1.0}, ("gamma",), "greater_than_equal"),
        ({"name": "focal", "gamma": 1.0, "margin": 0.5}, ("margin",), "extra_forbidden"),
    ],
)
def test_a_section_that_fits_no_file_is_an_error_at_its_place(section, location, kind):
    with pytest.raises(ValidationError) as error:
        LOSS.validate_python(section)
    (problem,) = error.value.errors()
    assert (problem["loc"], problem["type"]) == (location, kind)


@pytest.mark.parametrize("one_of", [SOURCE, ADAPT])
def test_the_schema_has_a_choice_for_each_file(one_of):
    schema = TypeAdapter(Annotated[Chosen, one_of]).json_schema()
    assert schema["discriminator"] == {"propertyName": one_of.by}
    sections = choices(schema, schema)
    assert tuple(sections) == names(one_of.package)
    assert all(one_of.by in part["required"] and not part["additionalProperties"] for part in sections.values())


def test_a_name_is_that_of_a_file():
    head = TypeAdapter(Annotated[str, NameOf("tailnas.heads")])
    assert head.validate_python("crt") == "crt"
    assert head.json_schema() == {"enum": list(names("tailnas.heads")), "type": "string"}
    for name in ("prune", None, 3):
        with pytest.raises(ValidationError):
            head.validate_python(name)


NEW_FILES = {
    "sources": """
        class Settings(DataSet):
            stripes: int = Field(description="How many.")

        def load(settings, image_size, channels): ...
        def class_names(settings): return ("thin", "thick")
        def train_counts(settings): return [settings.stripes] * 2
    """,
    "methods": """
        class Settings(Section):
            luck: float = Field(ge=0, description="How much.")

        def search(task, settings): ...
        def start(bilevel, settings): return "single" if settings.luck else None
    """,
    "losses": """
        class Settings(Section):
            width: float = Field(ge=0, description="How wide.")

        class New(Loss[Settings]):
            def __call__(self, logits, labels, weight=None, reduction="mean"):
                return self.settings.width * logits.sum()
    """,
    "heads": """
        class Settings(Section):
            depth: int = Field(description="How deep.")

        def adapt_head(task, settings): return settings.depth
    """,
}
IMPORTS = """
from pydantic import Field
from tailnas.fetch.settings import DataSet
from tailnas.foundation.settings import Section
from tailnas.retrain.loss import Loss
"""
PROBE = """
import json
from pathlib import Path
import torch
from tailnas.foundation.errors import UserError
from tailnas.foundation.yaml_file import read_yaml
from tailnas.retrain.loss import make_loss
from tailnas.search.method import starting_paths
from tailnas.validate.feasible import require_feasible
from tailnas.validate.parameters import checked_params

document = read_yaml(Path("presets/default.yaml"))
document["data"]["target"] = {"kind": "new", "name": "own", "stripes": 200}
document["study"]["methods"] = ["new"]
document["search"]["new"] = {"luck": 1.0}
document["pretrain"]["single_path"] = {"epochs": 1, "learning_rate": 0.02}
document["retrain"]["loss"] = {"name": "new", "width": 2.0}
document["adapt"] = {"method": "new", "depth": 3}
params = checked_params(document, "params.yaml")
require_feasible(params)
said = {
    "loss": float(make_loss(params.retrain.loss, [2, 1])(torch.ones(1, 2), torch.tensor([0]))),
    "head": params.adapt.module.adapt_head(None, params.adapt.settings),
    "start": starting_paths("new", params.search.bilevel, params.search.method("new")),
}
document["retrain"]["loss"]["width"] = document["search"]["new"]["luck"] = -1
try:
    checked_params(document, "params.yaml")
except UserError as error:
    said["error"] = str(error).splitlines()
print(json.dumps(said))
"""


def test_a_file_dropped_into_the_package_is_found_without_any_other_change(tmp_path):
    shutil.copytree(ROOT / "tailnas", tmp_path / "tailnas", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    for package, body in NEW_FILES.items():
        lines = [line.removeprefix(" " * 8) for line in body.splitlines()]
        (tmp_path / "tailnas" / package / "new.py").write_text(IMPORTS + "\n".join(lines))
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = SimpleNamespace(**json.loads(done.stdout))
    assert (said.loss, said.head, said.start) == (4.0, 3, "single")
    assert said.error == [
        "params.yaml: search.new.luck: -1; allowed: a finite number at least 0",
        "params.yaml: retrain.loss.width: -1; allowed: a finite number at least 0",
    ]
