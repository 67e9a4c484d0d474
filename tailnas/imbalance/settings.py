"""Settings of the mixing ratio of two branches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.settings import Section, Share


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
