"""Settings of every training."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from tailnas.foundation.settings import Count, Fraction, NonNegative, Positive, Precision, Section


class Training(Section):
    """SGD with momentum along half a cosine."""

    epochs: Count = Field(description="Passes over the data.")
    batch_size: Annotated[int, Field(ge=2, le=65536)] = Field(description="Images per step (of each branch).")
    learning_rate: Positive = Field(description="SGD learning rate at the start; falls along half a cosine.")
    learning_rate_min: NonNegative = Field(description="SGD learning rate at the end.")
    momentum: Fraction = Field(description="SGD momentum.")
    weight_decay: NonNegative = Field(description="SGD weight decay.")

    @field_validator("learning_rate_min")
    @classmethod
    def _below_the_start(cls, value: float, info: ValidationInfo) -> float:
        start = info.data.get("learning_rate")
        if start is not None and value > start:
            raise ValueError(f"at most learning_rate ({start})")
        return value


class NetworkTraining(Training):
    """Training of a whole network on augmented images."""

    gradient_clip: Positive | None = Field(description="Largest gradient norm; null does not clip.")
    crop_padding: Annotated[int, Field(ge=0, le=512)] = Field(description="Pixels of a random crop's zero padding.")
    flip: bool = Field(description="Random horizontal flips; wrong for letters and digits.")
    precision: Precision = Field(description="float32; on a GPU also tf32 or bf16.")
