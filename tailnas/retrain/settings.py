"""Settings of retraining; a loss's own stand in its file of tailnas/losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from tailnas.foundation.extensions import Chosen, OneOf
from tailnas.foundation.settings import Fraction, NonNegative, Positive, Section, Share
from tailnas.imbalance.settings import Mixing
from tailnas.training.settings import LastBatch, NetworkTraining


class RetrainTraining(NetworkTraining):
    """Training of the derived network."""

    last_batch: LastBatch


class NetworkShape(Section):
    """How large the derived network is, and with which weights it starts."""

    channels: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        description="Channels of the first cells, doubled at each reduction; null fits them to `parameters`."
    )
    parameters: Annotated[int, Field(ge=1000, le=1_000_000_000)] | None = Field(
        description="Parameters to which each genotype is fitted by its channels, within 5%; null takes `channels`."
    )
    cells: Annotated[int, Field(ge=3, le=100)] = Field(
        description="Backbone cells L; one more cell (the head), or one per branch, follows. Of the D = L + 1 cells in "
        "all, those at D//3 and 2D//3 reduce: 19 makes DARTS' network of 20. Of no effect on a hand-made network."
    )
    initialisation: Literal["default", "kaiming_normal", "kaiming_normal_convolutions"] = Field(
        description="PyTorch's own; N(0, 2 / fan-in) for convolutions and classifier (1502.01852; LDAM-DRW's code), or "
        "for convolutions alone (BBN's)."
    )
    pool_norm: bool = Field(
        description="A BatchNorm without affine weights behind each pooling, as the search network has it; DARTS' "
        "derived networks have none, and cells that chain poolings then hardly train. Of no effect on a hand-made "
        "network."
    )
    drop_path: Fraction = Field(description="Probability of a dropped path at the end; it grows from 0 linearly.")
    auxiliary_weight: NonNegative = Field(description="Weight of the auxiliary head's loss; 0 has no such head.")

    @field_validator("parameters")
    @classmethod
    def _one_of_two(cls, value: int | None, info: ValidationInfo) -> int | None:
        if "channels" in info.data and (info.data["channels"] is None) == (value is None):
            raise ValueError("a number, or else a number as channels" if value is None else "null beside channels")
        return value


class RandAugmentation(Section):
    """RandAugment (1909.13719)."""

    operations: Annotated[int, Field(ge=1, le=10)] = Field(
        description="Operations on each image, drawn for each by itself."
    )
    magnitude: Annotated[int, Field(ge=0, le=30)] = Field(description="Strength of every operation.")


class ImageMixing(Section):
    """Each image and its label mixed with another of its batch."""

    name: Literal["mixup", "cutmix"] = Field(description="mixup: whole images; cutmix: a pasted box.")
    alpha: Positive = Field(description="Each image's share is drawn from Beta(alpha, alpha).")


class FurtherAugmentation(Section):
    """What is done to images beyond crop and flip."""

    cutout: Annotated[int, Field(ge=0, le=1024)] = Field(
        description="Side in pixels of the square that is blanked in each image; 0 blanks nothing."
    )
    rand_augment: RandAugmentation | None = Field(description="null does without.")
    image_mixing: ImageMixing | None = Field(description="null mixes nothing.")


class SingleBranch(Section):
    """One batch per step."""

    name: Literal["one"]
    sampler: Literal[
        "instance", "class_balanced", "square_root", "reversed", "progressively_balanced", "class_aware"
    ] = Field(
        description="How often a class is drawn; progressively_balanced goes from instance to class_balanced, "
        "class_aware draws the classes in turn, max(n_c) K images per epoch."
    )


class BilateralBranches(Section):
    """BBN's network (1912.02413): an instance and a class head, on instance-balanced and reversed batches.

    A factor of its own, to be compared with itself alone.
    """

    name: Literal["two"]
    mixing: Mixing = Field(description="Mixing ratio of the branches.")


class MixtureConsistency(Section):
    """GLMC (2305.08661): each image and a partner mixed in two ways, whose features are to agree.

    A factor of its own: it has losses, re-sampling and re-weighting of its own.
    """

    name: Literal["glmc"]
    alpha: Positive = Field(description="The images' shares are drawn from Beta(alpha, alpha).")
    partner_exponent: Share = Field(
        description="q of the partners' class probabilities, proportional to n^q: 1 draws images alike, 0 classes. The "
        "public code has 0.8."
    )
    label_exponent: NonNegative = Field(
        description="k of the re-weighted loss's class weights, proportional to n^-k. The public code has 1."
    )
    consistency: NonNegative = Field(description="Weight gamma of the consistency loss. The public code has 10.")
    projection: Annotated[int, Field(ge=1, le=65536)] = Field(
        description="Dimension of the projected features. The public code has 128."
    )


class Contrastive(Section):
    """BCL (2207.09052) or ProCo (2403.06726): a classifier, and a contrast of two more views of each image beside it.

    A factor of its own: the losses have the class sizes in them.
    """

    name: Literal["bcl", "proco"] = Field(
        description="bcl: with the batch and one prototype of each class, classes counting by their means; proco: with "
        "distributions of the classes."
    )
    weight: NonNegative = Field(
        description="Weight of the contrast beside the classifier's loss. Public code has 0.35 for bcl, 1 for proco."
    )
    temperature: Positive = Field(
        description="What the cosines are divided by. Public code has 0.07 for bcl, 0.1 for proco."
    )
    hidden: Annotated[int, Field(ge=1, le=65536)] = Field(
        description="Units in the projector's hidden layer. 512 in ProCo's code."
    )
    projection: Annotated[int, Field(ge=2, le=65536)] = Field(
        description="Dimension of the projected features. 128 in ProCo's code."
    )


class NeverReweighted(Section):
    """Every class weighs 1."""

    when: Literal["never"]


class Reweighted(Section):
    """Class-balanced weights (1 - beta) / (1 - beta^n) in the loss (1901.05555)."""

    when: Literal["always", "deferred"] = Field(
        description="always, or in the last 20% of the epochs (DRW, 1906.07413)."
    )
    beta: Fraction = Field(description="beta of the weights.")
    divided_by: Literal["weights", "images"] = Field(
        description="What a batch's weighted losses are divided by: the sum of the weights (LDAM-DRW's code) or the "
        "number of images (the class-balanced loss')."
    )


class Retrain(Section):
    """The derived network, trained from random weights on the whole long-tailed training data."""

    training: RetrainTraining
    network: NetworkShape
    augmentation: FurtherAugmentation
    branches: Annotated[
        SingleBranch | BilateralBranches | MixtureConsistency | Contrastive, Field(discriminator="name")
    ] = Field(
        description="One batch and one head, BBN's two of each, GLMC's two views of a mixture, or three views of each "
        "image and a contrast."
    )
    loss: Annotated[Chosen, OneOf("tailnas.losses", by="name")] = Field(
        description="Loss of the training; each is a file of tailnas/losses."
    )
    reweighting: Annotated[NeverReweighted | Reweighted, Field(discriminator="when")] = Field(
        description="When classes weigh by their size in the loss."
    )
