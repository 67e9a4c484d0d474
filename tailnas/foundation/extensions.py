"""Extensions: what is one file of a folder, found by its name. There is no other register.

A file of tailnas/sources, methods, losses or heads declares its `Settings` and what it does with them; its name is the
value that chooses it in params.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import create_model
from pydantic_core import PydanticCustomError, core_schema

from tailnas.foundation.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailnas.foundation.settings import Section

_ROOT = Path(__file__).parents[2]


def names(package: str) -> tuple[str, ...]:
    """Names of the files of a package such as `tailnas.methods`, in alphabetical order."""
    files = _ROOT.joinpath(*package.split(".")).glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.stem.startswith("_")))


def extension(package: str, name: str, key: str) -> ModuleType:
    """The module `name` of `package`. Raises UserError, naming the parameter `key`, where there is no such file."""
    if name not in names(package):
        raise UserError(f"{key}: {name!r}; allowed: {', '.join(names(package))}")
    return import_module(f"{package}.{name}")


@dataclass(frozen=True)
class Chosen:
    """The file that a section of params.yaml names, and the settings that stand there for it."""

    name: str
    module: ModuleType
    settings: Any
    """An instance of the module's `Settings`."""


@dataclass(frozen=True)
class OneOf:
    """Type of a section that names a file of `package` under the key `by` and holds that file's settings.

    `retrain.loss: Annotated[Chosen, OneOf("tailnas.losses", by="name")]` reads `{name: focal, gamma: 1.0}`.
    """

    package: str
    by: str

    def settings(self, name: str) -> type[Section]:
        """The type of the section that names the file `name`."""
        return _settings(self.package, self.by, name)

    def parse(self, value: Any) -> Chosen:
        """Raises pydantic's errors."""
        name = value.get(self.by) if isinstance(value, dict) else None
        if name not in names(self.package):
            raise PydanticCustomError("no_such_extension", "no such extension", {"by": self.by})
        settings = self.settings(name).model_validate(value)
        return Chosen(name, import_module(f"{self.package}.{name}"), settings)

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        choices = [handler(self.settings(name).__pydantic_core_schema__) for name in names(self.package)]
        return {"oneOf": choices, "discriminator": {"propertyName": self.by}}


@dataclass(frozen=True)
class NameOf:
    """Type of a text that is the name of a file of `package`."""

    package: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> core_schema.CoreSchema:
        return core_schema.literal_schema(list(names(self.package)))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return {"enum": list(names(self.package)), "type": "string"}


@cache
def _settings(package: str, by: str, name: str) -> type[Section]:
    from typing import Literal

    declared = import_module(f"{package}.{name}").Settings
    chosen: type[Section] = create_model(
        name,
        __base__=declared,
        __doc__=declared.__doc__,
        **{by: (Literal[name], ...)},  # type: ignore[call-overload]
    )
    return chosen
