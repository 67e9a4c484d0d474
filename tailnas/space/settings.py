"""Settings of the search space."""

from typing import Annotated

from pydantic import Field

from tailnas.foundation.settings import Section


class Space(Section):
    """The DARTS search network (method: section 2)."""

    channels: Annotated[int, Field(ge=1, le=1024)] = Field(description="Channels of the first cells.")
    cells: Annotated[int, Field(ge=3, le=100)] = Field(
        description="Backbone cells L, reductions at L//3 and 2L//3; one more cell, or one per branch, follows."
    )
