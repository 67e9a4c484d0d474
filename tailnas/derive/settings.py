"""Settings of the derivation of a genotype."""

from typing import Literal

from pydantic import Field

from tailnas.foundation.settings import Count, Section


class Derive(Section):
    """Which alphas become the genotype."""

    epoch: Literal["last"] | Count = Field(description="The last epoch's alphas, or those after this epoch.")
