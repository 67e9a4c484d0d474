"""Settings of every training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from tailnas.foundation.settings import Count, Fraction, NonNegative, Positive, Precision, Section


class Cosine(Section):
    """The learning rate falls along half a cosine (DARTS, 1806.09055)."""

    name: Literal["cosine"]
    minimum: NonNegative = Field(description="Learning rate at the end, at most `learning_rate`.")


def _ascending(moments: list[float]) -> list[float]:
    if moments != sorted(set(moments)):
        raise ValueError("a list in ascending order")
    return moments


class Steps(Section):
    """The learning rate is constant between steps (LDAM-DRW, 1906.07413; BBN, 1912.02413)."""

    name: Literal["steps"]
    at: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1), AfterValidator(_ascending)] = Field(
        description="Parts of the epochs after which it falls: 0.8 is after 160 of 200."
    )
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(description="What it is multiplied by at each step.")


Schedule = Annotated[Cosine | Steps, Field(discriminator="name")]


class WarmUp(Section):
    """The learning rate rises linearly at first (1706.02677), from epoch to epoch."""

    part: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Part of the epochs at the end of which all of the learning rate is reached: 0.025 is 5 of 200."
    )
    start: Fraction = Field(description="Share of the learning rate from which it rises.")


class Training(Section):
    """SGD with momentum."""

    epochs: Count = Field(description="Passes over the data.")
    batch_size: Annotated[int, Field(ge=2, le=65536)] = Field(description="Images per step (of each branch).")
    learning_rate: Positive = Field(description="SGD learning rate, with which the schedule starts.")
    schedule: Schedule = Field(description="How the learning rate falls.")
    warmup: WarmUp | None = Field(description="null does without.")
    momentum: Fraction = Field(description="SGD momentum.")
    nesterov: bool = Field(description="Nesterov's momentum, as BBN's code has it.")
    weight_decay: NonNegative = Field(description="SGD weight decay.")

    @field_validator("schedule")
    @classmethod
    def _ends_below_its_start(cls, value: Cosine | Steps, info: ValidationInfo) -> Cosine | Steps:
        start = info.data.get("learning_rate")
        if start is not None and isinstance(value, Cosine) and value.minimum > start:
            raise ValueError(f"a minimum of at most learning_rate ({start})")
        return value

    @field_validator("nesterov")
    @classmethod
    def _with_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("momentum") == 0:
            raise ValueError("false where momentum is 0")
        return value


class NetworkTraining(Training):
    """Training of a whole network on augmented images."""

    gradient_clip: Positive | None = Field(description="Largest gradient norm; null does not clip.")
    crop_padding: Annotated[int, Field(ge=0, le=512)] = Field(description="Pixels of a random crop's zero padding.")
    flip: bool = Field(description="Random horizontal flips; wrong for letters and digits.")
    precision: Precision = Field(description="float32; on a GPU also tf32 or bf16.")


LastBatch = Annotated[
    Literal["drop", "keep"],
    Field(
        description="What becomes of the images that fill no batch at the end of a pass: dropped, or kept as a smaller "
        "batch of at least two."
    ),
]
