"""Settings of the calibration."""

from typing import Annotated

from pydantic import Field

from tailnas.foundation.settings import Section


class Calibrate(Section):
    """Temperature and sets of classes, from networks of the same genotype trained on one half and asked on the other."""

    miss: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Probability with which an image's set of classes may lack the true one; a class needs "
        "1 / miss - 1 training images for it."
    )
