"""Settings of the search space."""

from typing import Annotated

from pydantic import Field

from tailnas.foundation.settings import Section


class Space(Section):
    """The DARTS search network (method: section 2)."""

    channels: Annotated[int, Field(ge=1, le=1024)] = Field(description="Channels of the first cells.")
    cells: Annotated[int, Field(ge=3, le=100)] = Field(
        description="Backbone cells L; one more cell, or one per branch, follows. Of these D = L + 1 cells, those at "
        "D//3 and 2D//3 reduce."
    )

    @property
    def reductions(self) -> tuple[int, int]:
        """Places of the reduction cells, by the total depth L + 1, the same for one branch and for two."""
        return (self.cells + 1) // 3, 2 * (self.cells + 1) // 3
