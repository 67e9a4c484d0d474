"""Settings of the long-tailed split."""

from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.settings import Section


class Split(Section):
    """The long-tailed split of the target (method: section 1)."""

    profile: Literal["exp", "step", "natural"] = Field(
        description="exp: n_max * IF^(-c/(K-1)); step: second half of the classes n_max/IF; natural: as the data is."
    )
    class_order: Literal["shuffled", "given"] = Field(
        description="shuffled: a seeded permutation says which class is head and which tail; given: class order."
    )
    n_max: Annotated[int, Field(ge=4)] | None = Field(
        description="Images of the largest class; null takes as many as the smallest class of the data has."
    )
    folds: Annotated[int, Field(ge=2, le=100)] | None = Field(
        description="Cross-validation for few images of your own (profile natural, test_per_class null): every image "
        "is tested once; a run's seed modulo folds is its fold, and the report pools them. null: one test part."
    )
