"""Settings of head adaptation; a method's own stand in its file of tailnas/heads."""

from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.extensions import OneOf
from tailnas.training.settings import LastBatch, Training

ADAPT = OneOf("tailnas.heads", by="method")

BalancedSampler = Annotated[
    Literal["class_balanced", "class_aware"],
    Field(
        description="class_balanced draws a class for each image, as many as there are per epoch; class_aware the "
        "classes in turn, max(n_c) K per epoch (Kang et al.'s code)."
    ),
]


class HeadTraining(Training):
    """Training of a linear head on features."""

    last_batch: LastBatch
