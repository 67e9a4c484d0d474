"""Settings of the calibration."""

from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.settings import Section


class Calibrate(Section):
    """Temperature and sets of classes, from networks that have not seen the images they judge (method: section 10)."""

    networks: Literal[0, 1, 2] = Field(
        description="Networks retrained for it, each of which costs as much as the retraining: 2, on one half each, "
        "asked about the other; 1, on the weight half; 0 leaves the temperature at 1 and makes no sets."
    )
    miss: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Probability with which an image's set of classes may lack the true one; a class needs "
        "1 / miss - 1 images that were judged for it."
    )
