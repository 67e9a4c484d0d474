import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailnas.space.genotype import DARTS_V1, DARTS_V2, Genotype, derive_genotype
from tailnas.space.primitives import EDGES, NODES, PRIMITIVES, edge_index

NONE, MAX, AVG, SKIP, SEP3, SEP5, DIL3, DIL5 = range(8)
ZEROS = torch.zeros(EDGES, 8)


def derive(alphas: torch.Tensor) -> tuple[tuple[str, int], ...]:
    return derive_genotype({"normal": alphas, "reduce": ZEROS}).normal


def test_ties_go_to_the_lowest_index() -> None:
    assert derive(ZEROS) == tuple(("max_pool_3x3", source) for _ in range(NODES) for source in (0, 1))


def test_the_stronger_edge_comes_first() -> None:
    alphas = ZEROS.clone()
    alphas[edge_index(2, 3), DIL5] = 2.0
    alphas[edge_index(2, 1), SEP3] = 1.0
    assert derive(alphas)[4:6] == (("dil_conv_5x5", 3), ("sep_conv_3x3", 1))


def test_none_is_never_chosen_but_counts_in_the_denominator() -> None:
    alphas = ZEROS.clone()
    alphas[edge_index(1, 0), NONE] = 5.0
    alphas[edge_index(1, 0), SKIP] = 1.0
    alphas[edge_index(1, 2), SEP5] = 0.5
    assert derive(alphas)[2:4] == (("sep_conv_5x5", 2), ("max_pool_3x3", 1))


def test_edges_with_the_same_alphas_in_another_order_tie() -> None:
    values = torch.tensor([0.1, 0.7, -0.3, 0.2, 1.3, -2.0, 0.35, 0.9], dtype=torch.float64)
    alphas = torch.stack([values] * EDGES)
    alphas[edge_index(0, 1)] = torch.cat([values[:1], values[1:].flip(0)])
    assert derive(alphas)[:2] == (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))


@given(st.integers(0, 2**31))
def test_derivation_agrees_with_a_naive_one(seed: int) -> None:
    alphas = torch.randn(EDGES, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = torch.softmax(alphas, dim=1)
    pairs = derive(alphas)
    for node in range(NODES):
        best = [(weights[edge_index(node, s), 1:].max().item(), s) for s in range(node + 2)]
        expected = [source for _, source in sorted(best, reverse=True)[:2]]
        assert [source for _, source in pairs[2 * node : 2 * node + 2]] == expected
        for primitive, source in pairs[2 * node : 2 * node + 2]:
            assert primitive == PRIMITIVES[1 + int(weights[edge_index(node, source), 1:].argmax())]


def test_heads_are_derived_where_there_are_alphas_for_them() -> None:
    alphas = dict.fromkeys(("normal", "reduce", "instance_head", "class_head"), ZEROS)
    genotype = derive_genotype(alphas)
    assert genotype.instance_head == genotype.class_head == genotype.normal
    assert list(genotype.components()) == list(alphas)
    assert derive_genotype({"normal": ZEROS, "reduce": ZEROS}).instance_head is None


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ({"normal": ZEROS}, "'reduce' is missing"),
        ({"normal": ZEROS, "reduce": ZEROS, "tail": ZEROS}, "'tail'"),
        ({"normal": ZEROS, "reduce": ZEROS[:, 1:]}, r"\(14, 7\)"),
        ({"normal": ZEROS, "reduce": ZEROS / 0}, "not finite"),
    ],
)
def test_bad_alphas_are_refused(alphas: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        derive_genotype(alphas)


WITH_HEADS = derive_genotype(dict.fromkeys(("normal", "reduce", "instance_head", "class_head"), ZEROS))


@pytest.mark.parametrize("genotype", [DARTS_V1, DARTS_V2, WITH_HEADS])
def test_json_round_trip(genotype: Genotype) -> None:
    text = genotype.to_json()
    assert Genotype.from_json(text) == genotype
    assert Genotype.from_json(text).to_json() == text
    assert list(json.loads(text)) == [*genotype.components(), "concat"]


def edited(**changes: object) -> str:
    content = json.loads(DARTS_V2.to_json()) | changes
    return json.dumps({key: value for key, value in content.items() if value != "absent"})


PAIRS = [list(pair) for pair in DARTS_V2.normal]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        (edited(reduce="absent"), "'reduce' is missing"),
        (edited(concat="absent"), "'concat' is missing"),
        (edited(tail=[]), "unknown key 'tail'"),
        (edited(normal=PAIRS[:7]), "8 pairs"),
        (edited(normal="sep_conv_3x3"), "8 pairs"),
        (edited(normal=[*PAIRS[:7], ["sep_conv_3x3"]]), r"normal\[7\] must be a pair"),
        (edited(normal=[*PAIRS[:7], ["none", 0]]), r"normal\[7\] has primitive 'none'"),
        (edited(normal=[*PAIRS[:7], [["none"], 0]]), r"normal\[7\] has primitive"),
        (edited(reduce=[["skip_connect", 2], *PAIRS[1:]]), r"reduce\[0\] has input 2; allowed are 0 to 1"),
        (edited(reduce=[["skip_connect", -1], *PAIRS[1:]]), r"reduce\[0\] has input -1"),
        (edited(reduce=[["skip_connect", True], *PAIRS[1:]]), r"reduce\[0\] has input True"),
        (edited(class_head=[["skip_connect", 1], *PAIRS[1:]]), r"class_head\[1\] takes input 1 a second time"),
        (edited(concat=[2, 3]), "concat"),
        (edited(concat=5), "concat"),
    ],
)
def test_what_is_no_genotype_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Genotype.from_json(text)
    assert "\n" not in str(error.value)
