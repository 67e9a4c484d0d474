"""The reference without a search: features of a pretrained network, on which retraining trains the classifier alone."""

from typing import Annotated, Literal

from pydantic import Field

from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import Positive, Section
from tailnas.genotype.genotype import Genotype
from tailnas.genotype.pretrained import Pretrained
from tailnas.search.task import SearchResult, SearchTask
from tailnas.space.frozen import FrozenCell
from tailnas.space.settings import Space

Colours = Field(min_length=3, max_length=3)


class Settings(Section):
    """A network of torchvision or timm and a local file of its weights; nothing is downloaded."""

    package: Literal["torchvision", "timm"] = Field(description="What builds the architecture; timm is an extra.")
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")] = Field(
        description="Its name there, of a classification network that ends in a linear layer."
    )
    weights: Annotated[str, Field(min_length=1)] | None = Field(
        description="File of the weights: safetensors, or a state dict of torch. null where the method is not run."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        description="Checksum of that file, so that other weights are another run."
    )
    image_size: Annotated[int, Field(ge=16, le=4096)] = Field(description="Side in pixels to which images are resized.")
    mean: Annotated[list[float], Colours] = Field(description="Mean of each colour that the network wants, of 0 to 1.")
    std: Annotated[list[Positive], Colours] = Field(description="Standard deviation of each colour.")


def require(settings: Settings, space: Space, classes: int | None, channels: int) -> None:
    """The file is there, and holds the weights of the network."""
    loaded(settings)


def search(task: SearchTask, settings: Settings) -> SearchResult:
    """The network by name, file and checksum, once its weights fit."""
    return SearchResult.chosen(Genotype(network="frozen", pretrained=loaded(settings)))


def loaded(settings: Settings) -> Pretrained:
    """What the settings name. Raises UserError: no such architecture in the package, or no file of its weights."""
    if settings.weights is None or settings.sha256 is None:
        raise UserError("search.frozen.weights, sha256: null; allowed: those of a local file")
    pretrained = Pretrained(
        package=settings.package,
        architecture=settings.architecture,
        weights=settings.weights,
        sha256=settings.sha256,
        image_size=settings.image_size,
        mean=tuple(settings.mean),
        std=tuple(settings.std),
    )
    FrozenCell(pretrained).load_weights()
    return pretrained
