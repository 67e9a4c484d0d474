"""Where candidate sub-networks come from: random draws, or evolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from tailnas.space.genotype import Genotype
from tailnas.space.random_genotype import mutated, random_genotype

if TYPE_CHECKING:
    from tailnas.params import Search


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
        return self._new(lambda: random_genotype(self.generator))

    def tell(self, genotype: Genotype, score: float) -> None:
        self.scored.append((genotype, score))

    def _new(self, draw: Any) -> Genotype:
        known = {genotype for genotype, _ in self.scored}
        while (genotype := draw()) in known:
            pass
        return genotype

    def state_dict(self) -> dict[str, Any]:
        scored = [[genotype.to_json(), score] for genotype, score in self.scored]
        return {"scored": scored, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scored = [(Genotype.from_json(text), score) for text, score in state["scored"]]
        self.generator.set_state(state["generator"])


class Evolution(RandomCandidates):
    """Regularised evolution (Real et al., 1802.01548): the best of a tournament has a child, the oldest leaves.

    population: the youngest so many are alive; the first so many are random. tournament: candidates in one.
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
        return self._new(lambda: mutated(parent, self.generator))


def make_candidates(settings: Search, generator: torch.Generator) -> Candidates:
    """The source of candidates that `search.candidate_source` names."""
    if settings.candidate_source == "evolution":
        return Evolution(generator, settings.population, settings.tournament)
    return RandomCandidates(generator)
