"""Settings: sections of params.yaml as types. Each is declared beside the code that reads it, documented and bounded.

Nothing has a default: what a run used stands in params.yaml, whole.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tailnas.foundation.errors import cut, short
from tailnas.foundation.extensions import NameOf


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class NoSettings(Section):
    """Has no settings of its own."""


def first_mistake(error: ValidationError, *section: str) -> str:
    """Key and value of the first thing that did not fit a type. section: where that was read from."""
    problem = error.errors(include_url=False)[0]
    key = cut(".".join([*section, *map(str, problem["loc"])]))
    value = "missing" if problem["type"] == "missing" else short(problem["input"])
    return f"{key}: {value}" if key else value


def no_duplicates(values: list[Any]) -> list[Any]:
    """`values`, or ValueError where one is there twice."""
    if len(set(values)) != len(values):
        raise ValueError("a list without duplicates")
    return values


Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0, le=1e30)]  # float32 ends at 3.4e38
Positive = Annotated[float, Field(gt=0, le=1e30)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Precision = Literal["float32", "tf32", "bf16"]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
_FACTOR_BOUNDS = Field(ge=1, le=1_000_000)
NATURAL = "natural"
"""Stands in the place of an imbalance factor where the data keeps its own."""
ImbalanceFactor = Annotated[int, _FACTOR_BOUNDS] | Annotated[float, _FACTOR_BOUNDS] | Literal["natural"]
_Entries = Field(min_length=1, json_schema_extra={"uniqueItems": True})
MethodName = Annotated[str, NameOf("tailnas.methods")]


class Study(Section):
    """What is computed: every method at every imbalance factor with every seed, retrained with every retrain seed."""

    methods: Annotated[list[MethodName], _Entries, AfterValidator(no_duplicates)] = Field(
        description="Search methods to run; each is a file of tailnas/methods and a section of `search`."
    )
    imbalance_factors: Annotated[list[ImbalanceFactor], _Entries, AfterValidator(no_duplicates)] = Field(
        description="Largest class size over smallest class size of the training data; natural, alone, with "
        "split.profile natural."
    )
    seeds: Annotated[list[Seed], _Entries, AfterValidator(no_duplicates)] = Field(
        description="Each seed varies split, pretraining, search, retraining and adaptation together."
    )
    retrain_seeds: Annotated[list[Seed], _Entries, AfterValidator(no_duplicates)] = Field(
        description="Each retrains and adapts every searched genotype once more, so that the report can tell the noise "
        "of searches from that of retrainings; 0 goes by the run's own seed."
    )


class Runtime(Section):
    """Where and how stages run. No stage depends on this section: it changes no result that is promised equal."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = Field(
        description="auto takes a GPU where there is one; cpu, cuda or cuda:N."
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(
        description="CPU threads of each stage. Never taken from --cores: the last bits of a result depend on it."
    )
    progress: Literal["auto", "bar", "lines", "none"] = Field(
        description="auto is a bar in a terminal and one line per epoch elsewhere."
    )
    cuda_graph: bool = Field(description="On a GPU, record a whole search step once and replay it; no effect on a CPU.")
