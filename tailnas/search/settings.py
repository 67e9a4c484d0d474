"""Settings that search methods share; a method's own stand in its file."""

from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.settings import Fraction, NonNegative, Positive, Section


class Bilevel(Section):
    """Gradient descent on the alphas (method: section 3); of no effect on methods that have none."""

    order: Literal["first", "second"] = Field(description="Order of the architecture gradient.")
    initialisation: Literal["pretrained", "scratch"] = Field(description="Weights at the start of the search.")
    freeze_backbone: bool = Field(description="Train only alphas, last (head) cells and classifiers.")
    architecture_learning_rate: Positive = Field(description="Adam learning rate of the alphas.")
    architecture_betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = Field(
        description="Adam betas of the alphas."
    )
    architecture_weight_decay: NonNegative = Field(description="Adam weight decay of the alphas.")
    hessian: bool = Field(
        description="Record the largest eigenvalue of the Hessian of the validation loss over the alphas, each epoch; "
        "costs some tens of passes over one batch."
    )
