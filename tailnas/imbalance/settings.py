"""Settings of the mixing ratio of two branches and of label-aware smoothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from tailnas.foundation.settings import Fraction, Section, Share


class MovingRatio(Section):
    """A mixing ratio mu(t) that moves with training."""

    schedule: Literal["linear", "parabolic", "cosine", "smooth", "mirrored"] = Field(
        description="mu(t). linear is our reading of HLS, parabolic is BBN's own."
    )
    time: Literal["midpoint", "start"] = Field(
        description="t of an epoch: midpoint is (epoch + 1/2)/epochs, start is BBN's epoch/epochs."
    )


class ConstantRatio(Section):
    """A mixing ratio that stays."""

    schedule: Literal["constant"]
    time: Literal["midpoint", "start"] = Field(
        description="t of an epoch, for learning rates that follow it: midpoint or start."
    )
    ratio: Share = Field(description="mu, the weight of the instance branch.")


Mixing = Annotated[MovingRatio | ConstantRatio, Field(discriminator="schedule")]


class ClassSmoothing(Section):
    """Smoothing of a class's labels by its size (MiSLAS, 2104.00466, section 3.2)."""

    largest: Fraction = Field(description="Smoothing of the largest class.")
    smallest: Fraction = Field(description="Smoothing of the smallest class, at most that of the largest.")
    shape: Literal["concave", "linear", "convex"] = Field(
        description="How smoothing grows with the size of a class; concave is the public code's."
    )

    @field_validator("smallest")
    @classmethod
    def _at_most_the_largest(cls, value: float, info: ValidationInfo) -> float:
        largest = info.data.get("largest")
        if largest is not None and value > largest:
            raise ValueError(f"at most largest ({largest})")
        return value
