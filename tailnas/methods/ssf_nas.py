"""Search without labels under the weights of FairDARTS (SSF-NAS, 2406.16949); a reading."""

from pydantic import Field

from tailnas.foundation.settings import NonNegative
from tailnas.search.barlow_twins import Unlabelled, unlabelled_search
from tailnas.search.independent import Independent
from tailnas.search.method import pretrained_mixture
from tailnas.search.task import SearchResult, SearchTask

start = pretrained_mixture


class Settings(Unlabelled):
    """Barlow Twins, with a sigmoid for each primitive and a loss that drives it to 0 or 1."""

    weight: NonNegative = Field(description="Factor of the zero-one loss, as in fair_darts.")


def search(task: SearchTask, settings: Settings) -> SearchResult:
    return unlabelled_search(task, settings, Independent(settings.weight))
