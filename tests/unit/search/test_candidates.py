"""Candidates: where they come from, how the best is chosen, what they cost."""

import io

import pytest
import torch
from pydantic import ValidationError

from tailnas.genotype.genotype import Genotype
from tailnas.search.candidates import (
    Evolution,
    RandomCandidates,
    RandomDraws,
    RegularisedEvolution,
    make_candidates,
)
from tailnas.search.cost import Cost
from tailnas.search.ranking import rank
from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.path_costs import candidate_network, path_costs
from tailnas.space.random_genotype import mutated, random_genotype
from tailnas.space.settings import Space
from tailnas.training.loop import Loop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def separable(genotype: Genotype) -> float:
    """A score with a known best: the share of separable convolutions."""
    primitives = [primitive for edges in genotype.components().values() for primitive, _ in edges]
    return sum(primitive.startswith("sep_conv") for primitive in primitives) / len(primitives)


def scored(candidates, count):
    scores = []
    for _ in range(count):
        genotype = candidates.propose()
        scores.append(separable(genotype))
        candidates.tell(genotype, scores[-1])
    return scores


@pytest.mark.parametrize("make", [RandomCandidates, lambda g: Evolution(g, 10, 4)], ids=["random", "evolution"])
def test_no_candidate_comes_twice_and_state_goes_on(make):
    whole = make(generator())
    scored(whole, 60)
    assert len({genotype for genotype, _ in whole.scored}) == 60
    half, other = make(generator()), make(generator(5))
    scored(half, 23)
    buffer = io.BytesIO()
    torch.save(half.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    scored(other, 37)
    assert other.scored == whole.scored


def test_evolution_climbs_and_random_draws_do_not():
    climbing, drawn = scored(Evolution(generator(), 16, 5), 400), scored(RandomCandidates(generator()), 400)
    assert climbing[:16] == drawn[:16], "the first population is random"
    assert max(climbing) > 0.9 > 0.75 >= max(drawn)


def test_parents_are_among_the_youngest():
    """With a score that falls with age, a parent beyond the population would show as a child of the first candidate."""
    candidates = Evolution(generator(), 3, 3)
    ancestry = []
    for number in range(40):
        genotype = candidates.propose()
        if number >= 3:
            alive = [other for other, _ in candidates.scored[-3:]]
            distances = [
                sum(len(set(getattr(genotype, c)) - set(getattr(o, c))) for c in ("normal", "reduce")) for o in alive
            ]
            ancestry.append(min(distances))
        candidates.tell(genotype, -float(number))
    assert max(ancestry) <= 1


def test_evolution_goes_on_where_all_neighbours_of_the_parent_are_known():
    """A genotype has 16 edges: 6 other primitives for each, another input for those of the second node and later."""
    draws = generator()
    best = random_genotype(draws)
    known = {best}
    while len(known) < 1 + 120:
        known.add(mutated(best, draws))
    candidates = Evolution(draws, population=len(known), tournament=len(known))
    for genotype in known:
        candidates.tell(genotype, 1.0 if genotype == best else 0.0)
    child = candidates.propose()
    assert child not in known
    assert sum(edge not in best.normal + best.reduce for edge in child.normal + child.reduce) <= 2


def test_the_first_of_equals_wins(tmp_path):
    scores = iter([0.25, 0.5, 0.5, 0.125])
    candidates = RandomCandidates(generator())
    loop = Loop("search rank", tmp_path / "a.pt", tmp_path / "events", "none")
    best, table = rank(candidates, 4, lambda *_: {"balanced_accuracy": next(scores)}, loop)
    assert best == candidates.scored[1][0]
    assert [row["candidate"] for row in table] == [1, 2, 3, 4]
    assert [row["best_balanced_accuracy"] for row in table] == [0.25, 0.5, 0.5, 0.5]
    assert [Genotype.from_json(row["genotype"]) for row in table] == [genotype for genotype, _ in candidates.scored]


def test_source_follows_the_parameters():
    evolution = RegularisedEvolution(name="evolution", count=40, population=8, tournament=4)
    one, other = make_candidates(evolution, generator()), Evolution(generator(), 8, 4)
    assert scored(one, 40) == scored(other, 40) and one.scored == other.scored
    one, other = make_candidates(RandomDraws(name="random", count=40), generator()), RandomCandidates(generator())
    assert scored(one, 40) == scored(other, 40) and one.scored == other.scored


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population": 41}, r"at most count \(40\)"),
        ({"tournament": 9}, r"at most population \(8\)"),
        ({"count": 0}, "greater than or equal to 1"),
    ],
)
def test_an_evolution_that_has_too_few_candidates_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        RegularisedEvolution(**{"name": "evolution", "count": 40, "population": 8, "tournament": 4, **change})


def test_costs_of_paths_are_those_of_their_networks():
    space, source = Space(channels=2, cells=3), generator()
    costs = path_costs(space, 3, 1, 16)
    for _ in range(5):
        genotype = random_genotype(source)
        assert costs(genotype) == multiply_adds(candidate_network(genotype, space, 3, 1), 1, 16)


def test_cost_adds_up():
    cost = Cost(2, trained_images=30, scored_images=10, total_multiply_adds=400, details={"candidates": 3}).to_dict()
    assert cost["images"] == 40 and cost["multiply_adds"] == 10 and cost["candidates"] == 3
    assert Cost().to_dict()["images"] == Cost().to_dict()["multiply_adds"] == 0
