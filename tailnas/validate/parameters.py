"""The whole of params.yaml: the sections that the rooms and the files of extensions declare, put together."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, create_model

from tailnas.adapt.settings import ADAPT
from tailnas.calibrate.settings import Calibrate
from tailnas.derive.settings import Derive
from tailnas.evaluate.settings import Evaluate
from tailnas.export.settings import Export
from tailnas.fetch.settings import Data
from tailnas.foundation.errors import UserError, short
from tailnas.foundation.extensions import Chosen, names
from tailnas.foundation.settings import Runtime, Section, Study
from tailnas.foundation.yaml_file import read_yaml
from tailnas.pretrain.settings import Pretrain
from tailnas.retrain.settings import Retrain
from tailnas.search.method import PACKAGE
from tailnas.search.settings import Bilevel
from tailnas.space.settings import Space
from tailnas.split.settings import Split
from tailnas.training.settings import NetworkTraining
from tailnas.validate.combinations import mistakes
from tailnas.validate.messages import field_errors


class CommonSearch(Section):
    """Bilevel search on the imbalanced target (method: sections 3 to 7), and one section per method."""

    training: NetworkTraining
    augment_architecture_half: bool = Field(
        description="Crop and flip the alphas' batches, too, as DARTS does. The accuracy recorded on that half is "
        "of plain images."
    )
    bilevel: Bilevel

    def method(self, name: str) -> Section:
        """The section of one method."""
        settings: Section = getattr(self, name)
        return settings


if TYPE_CHECKING:
    Search = CommonSearch
else:
    Search = create_model(
        "Search",
        __base__=CommonSearch,
        __doc__=CommonSearch.__doc__,
        **{name: (import_module(f"{PACKAGE}.{name}").Settings, ...) for name in names(PACKAGE)},
    )


class Params(Section):
    """The whole of params.yaml."""

    study: Study
    runtime: Runtime
    data: Data
    split: Split
    space: Space
    pretrain: Pretrain
    search: Search
    derive: Derive
    retrain: Retrain
    adapt: Annotated[Chosen, ADAPT] = Field(
        description="Head adaptation on the frozen backbone (method: section 8); each is a file of tailnas/heads."
    )
    calibrate: Calibrate
    evaluate: Evaluate
    export: Export


def load_params(path: Path = Path("params.yaml")) -> Params:
    """All of `path`, checked: types, bounds, and combinations that no field can see alone.

    Raises UserError, one line for each mistake, each with the key, the value and what is allowed.
    """
    return checked_params(read_yaml(path), str(path))


def checked_params(document: Any, path: str) -> Params:
    """The parameters in `document`, which was read from `path`. Raises UserError as `load_params` does."""
    if not isinstance(document, dict):
        raise UserError(f"{path}: {short(document)}; allowed: the sections {', '.join(Params.model_fields)}")
    try:
        params = Params.model_validate(document)
    except ValidationError as error:
        wrong = field_errors(error, json_schema(), document)
        raise UserError("\n".join(dict.fromkeys(f"{path}: {line}" for line in wrong))) from None
    if lines := [f"{path}: {line}" for line in mistakes(params)]:
        raise UserError("\n".join(lines))
    return params


@cache
def json_schema() -> dict[str, Any]:
    """JSON schema of params.yaml, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
