"""Settings of the evaluation."""

from typing import Annotated

from pydantic import Field

from tailnas.foundation.settings import Section


class Evaluate(Section):
    """Metrics on the test set."""

    calibration_bins: Annotated[int, Field(ge=1, le=1000)] = Field(description="Bins of the calibration error.")
    batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(description="Images per forward pass.")
