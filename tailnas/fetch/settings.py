"""Settings of the data; a source's own stand in its file of tailnas/sources."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tailnas.foundation.extensions import Chosen, OneOf
from tailnas.foundation.settings import FolderName, Section
from tailnas.foundation.users_path import users_path

SOURCE = OneOf("tailnas.sources", by="kind")


class DataSet(Section):
    """What every kind of data has."""

    name: FolderName = Field(description="Folder below data/raw that holds the data set.")

    local_paths: ClassVar[tuple[str, ...]] = ()
    """Keys whose values are folders of the user's own, or null."""

    def own_folders(self) -> dict[str, Path]:
        """The user's folders that are given, by their keys. Raises UserError where `~` names nobody's home."""
        given = {key: getattr(self, key) for key in self.local_paths}
        return {key: users_path(f"data: {self.name}: {key}", text) for key, text in given.items() if text is not None}


class Data(Section):
    """The balanced source of the super-network and the target that is made long-tailed."""

    image_size: Annotated[int, Field(ge=16, le=1024, multiple_of=4)] = Field(
        description="Side of the square images in pixels. The cells halve it twice."
    )
    channels: Literal[1, 3] = Field(description="1 is grey, 3 is colour.")
    watch: dict[Literal["source", "target"], str] = Field(
        description="Folders of your own that a `path` or `root` names, as {target: my-birds}, for DVC to watch."
    )
    source: Annotated[Chosen, SOURCE] = Field(description="Balanced data on which the super-network is pretrained.")
    target: Annotated[Chosen, SOURCE] = Field(description="Data that is made long-tailed, searched on and evaluated.")
