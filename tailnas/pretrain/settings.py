"""Settings of pretraining."""

from pydantic import Field

from tailnas.foundation.settings import Count, Positive, Section
from tailnas.training.settings import NetworkTraining


class SinglePath(Section):
    """Training that follows on the same weights, one uniformly drawn path per step; the rest is the mixture's."""

    epochs: Count = Field(description="Passes over the data. Paths learn slowly: many times the mixture's.")
    learning_rate: Positive = Field(
        description="SGD learning rate, with which the mixture's schedule starts again. Paths want a lower one than "
        "the mixture."
    )


class Pretrain(Section):
    """Super-network on the balanced source (method: section 7)."""

    training: NetworkTraining = Field(
        description="The super-network as a mixture: alphas fixed at 0, every primitive weighs 1/8."
    )
    single_path: SinglePath | None = Field(description="For methods that rank single paths; null trains none.")
