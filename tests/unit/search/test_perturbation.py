"""Perturbation-based selection: what is decided follows from scores alone."""

import pytest
import torch

from tailnas.genotype.primitives import EDGES, NODES, PRIMITIVES, edge_index
from tailnas.search.perturbation import Projected, choose_inputs, choose_primitive, decided_genotype, scores
from tailnas.search.relaxation import Relaxation


def projected() -> tuple[Projected, dict[str, torch.Tensor]]:
    relaxation = Projected(Relaxation())
    alphas = {name: torch.zeros(EDGES, 8) for name in ("normal", "reduce")}
    relaxation.place(alphas, 0)
    return relaxation, alphas


def worth(relaxation: Projected, alphas, values: torch.Tensor):
    """A score that is linear in the weights of the normal cell, and counts how often it is asked for."""
    asked = []

    def score():
        asked.append(1)
        return round(float((relaxation.weights(alphas, None)["normal"] * values).sum()), 6), 0.0

    return score, asked


def test_decisions_follow_what_the_network_loses():
    """On each edge the most valuable primitive, whatever its alpha; of a node's edges the two that are worth most."""
    relaxation, alphas = projected()
    values = torch.rand(EDGES, 8, generator=torch.Generator().manual_seed(0))
    values[:, 0] = 5.0  # `none` would be the best
    alphas["normal"][:, 3] = 2.0  # and the alphas prefer skip connections: what is removed is measured, weighted so
    score, asked = worth(relaxation, alphas, values)
    for edge in torch.randperm(EDGES, generator=torch.Generator().manual_seed(1)).tolist():
        weights = relaxation.weights(alphas, None)["normal"]
        wanted = 1 + int((weights[edge, 1:] * values[edge, 1:]).argmax())
        assert choose_primitive(relaxation, "normal", edge, weights, score) == wanted
        assert relaxation.decided["normal"][edge].tolist() == [float(p == wanted) for p in range(8)]
    assert torch.isnan(relaxation.decided["reduce"]).all()
    chosen = relaxation.decided["normal"].clone()
    strength = (chosen * values).sum(1)
    for node in (2, 1, 3):
        best = sorted(range(node + 2), key=lambda source: float(strength[edge_index(node, source)]))[-2:]
        assert choose_inputs(relaxation, "normal", node, score) == sorted(best)
    assert len(asked) == scores(1)
    genotype = decided_genotype(dict.fromkeys(("normal", "reduce"), relaxation.decided["normal"]))
    assert genotype.in_order() == genotype
    for node in range(NODES):
        for primitive, source in genotype.normal[2 * node : 2 * node + 2]:
            assert PRIMITIVES.index(primitive) == int(chosen[edge_index(node, source)].argmax())


def test_inputs_are_missed_each_by_itself():
    """Two inputs that stand in for one another are missed by nobody: both go, as the paper's algorithm has it."""
    relaxation, alphas = projected()
    first, second, third, fourth = (edge_index(2, source) for source in range(4))

    def score():
        there = relaxation.weights(alphas, None)["normal"].sum(1) > 0
        either = float(there[first] | there[second])
        return 4 * either + 2 * float(there[third]) + float(there[fourth]), 0.0

    assert choose_inputs(relaxation, "normal", 2, score) == [2, 3]
    kept = relaxation.weights(alphas, None)["normal"].sum(1)
    assert kept[[first, second]].tolist() == [0, 0] and kept[[third, fourth]].tolist() == pytest.approx([1, 1])


def test_equal_accuracies_are_told_apart_by_the_loss():
    relaxation, alphas = projected()
    values = torch.rand(EDGES, 8, generator=torch.Generator().manual_seed(2))

    def score():
        return 0.5, float((relaxation.weights(alphas, None)["normal"] * values).sum())

    weights = relaxation.weights(alphas, None)["normal"]
    assert choose_primitive(relaxation, "normal", 4, weights, score) == 1 + int(values[4, 1:].argmax())
