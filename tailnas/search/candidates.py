"""Where candidate sub-networks come from: random draws, or evolution."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field, ValidationInfo, field_validator

from tailnas.foundation.settings import Section
from tailnas.genotype.genotype import Genotype
from tailnas.space.random_genotype import mutated, random_genotype

CandidateCount = Annotated[int, Field(ge=1, le=1_000_000)]


class RandomDraws(Section):
    """Candidates are uniform draws."""

    name: Literal["random"]
    count: CandidateCount = Field(description="Sub-networks that are scored.")


class RegularisedEvolution(Section):
    """Evolution that removes the oldest (1802.01548)."""

    name: Literal["evolution"]
    count: CandidateCount = Field(description="Sub-networks that are scored.")
    population: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        description="Candidates that may be parents, the youngest ones; as many random ones come first."
    )
    tournament: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="Candidates drawn from the population for each parent, which is the best of them."
    )

    @field_validator("population", "tournament")
    @classmethod
    def _not_more_than_there_are(cls, value: int, info: ValidationInfo) -> int:
        of = "count" if info.field_name == "population" else "population"
        if value > info.data.get(of, value):
            raise ValueError(f"at most {of} ({info.data[of]})")
        return value


CandidateSource = Annotated[RandomDraws | RegularisedEvolution, Field(discriminator="name")]


class Candidates(Protocol):
    """Proposes genotypes, no two alike, and learns what each one scored. Stateful, so that checkpoints carry it."""

    def propose(self) -> Genotype: ...

    def tell(self, genotype: Genotype, score: float) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class RandomCandidates:
    """Uniform draws, whatever the scores are."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.scored: list[tuple[Genotype, float]] = []

    def propose(self) -> Genotype:
        known = {genotype for genotype, _ in self.scored}
        while (genotype := random_genotype(self.generator)) in known:
            pass
        return genotype

    def tell(self, genotype: Genotype, score: float) -> None:
        self.scored.append((genotype, score))

    def state_dict(self) -> dict[str, Any]:
        scored = [[genotype.to_json(), score] for genotype, score in self.scored]
        return {"scored": scored, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scored = [(Genotype.from_json(text), score) for text, score in state["scored"]]
        self.generator.set_state(state["generator"])


DRAWS_OF_A_CHILD = 2000
"""A genotype has some 120 neighbours; so many draws leave one out in less than one of a million cases."""


class Evolution(RandomCandidates):
    """Regularised evolution (Real et al., 1802.01548): the best of a tournament has a child, the oldest leaves.

    population: candidates that are alive, the youngest ones; as many random ones come first. tournament: its size.
    """

    def __init__(self, generator: torch.Generator, population: int, tournament: int) -> None:
        super().__init__(generator)
        self.population, self.tournament = population, tournament

    def propose(self) -> Genotype:
        if len(self.scored) < self.population:
            return super().propose()
        alive = self.scored[-self.population :]
        chosen = torch.randperm(len(alive), generator=self.generator)[: self.tournament].tolist()
        parent, _ = max((alive[index] for index in sorted(chosen)), key=lambda scored: scored[1])
        known = {genotype for genotype, _ in self.scored}
        while True:
            for _ in range(DRAWS_OF_A_CHILD):
                if (child := mutated(parent, self.generator)) not in known:
                    return child
            parent = child  # all its neighbours are known: go on from one of them


def make_candidates(settings: RandomDraws | RegularisedEvolution, generator: torch.Generator) -> Candidates:
    """The source of candidates that `search.imb_nas.candidates` names."""
    if isinstance(settings, RegularisedEvolution):
        return Evolution(generator, settings.population, settings.tournament)
    return RandomCandidates(generator)
