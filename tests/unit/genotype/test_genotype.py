"""Genotypes: derived from alphas, in words, in order."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype, derive_genotype
from tailnas.genotype.primitives import EDGES, NODES, PRIMITIVES, edge_index

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


@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64]))
def test_arrays_and_tensors_stand_for_the_same_genotype(seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(EDGES, 8, generator=generator, dtype=dtype) for name in ("normal", "reduce")}
    found = derive_genotype({name: values.requires_grad_() for name, values in tensors.items()})
    assert derive_genotype({name: values.detach().numpy() for name, values in tensors.items()}) == found
    assert derive_genotype({name: values.tolist() for name, values in tensors.items()}) == found


def test_a_genotype_by_hand_from_an_array() -> None:
    alphas = np.zeros((EDGES, 8), np.float32)
    alphas[edge_index(0, 1), SEP3] = 2
    alphas[edge_index(3, 4), SKIP] = 3
    alphas[edge_index(3, 2), AVG] = 1
    genotype = derive_genotype({"normal": alphas, "reduce": np.zeros((EDGES, 8))})
    assert genotype.normal[:2] == (("sep_conv_3x3", 1), ("max_pool_3x3", 0))
    assert genotype.normal[6:] == (("skip_connect", 4), ("avg_pool_3x3", 2))


def test_the_package_loads_no_torch() -> None:
    code = "import sys, tailnas.genotype.found, tailnas.genotype.genotype; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_heads_are_derived_where_there_are_alphas_for_them() -> None:
    alphas = dict.fromkeys(("normal", "reduce", "instance_head", "class_head"), ZEROS)
    genotype = derive_genotype(alphas)
    assert genotype.instance_head == genotype.class_head == genotype.normal
    assert list(genotype.components()) == list(alphas)
    assert derive_genotype({"normal": ZEROS, "reduce": ZEROS}).instance_head is None


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ({"normal": ZEROS}, r"^alphas\.reduce: missing; allowed: normal, reduce"),
        ({"normal": ZEROS, "reduce": ZEROS, "tail": ZEROS}, r"^alphas: unknown component 'tail'; allowed: normal, "),
        ({"normal": ZEROS, "reduce": ZEROS[:, 1:]}, r"^alphas\.reduce: shape \(14, 7\); allowed: \(14, 8\)$"),
        ({"normal": ZEROS, "reduce": ZEROS / 0}, r"^alphas\.reduce: numbers that are not finite; allowed: finite"),
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
    assert Genotype.from_json(genotype.to_line()) == genotype and "\n" not in genotype.to_line()


def test_cells_in_order_by_hand() -> None:
    """Each node's inputs ascend; nodes stay where they are, and a hand-made network has none."""
    genotype = Genotype(DARTS_V1.normal, DARTS_V2.reduce, DARTS_V1.normal, DARTS_V2.normal).in_order()
    assert genotype.normal == genotype.instance_head == DARTS_V1.normal[1::-1] + DARTS_V1.normal[2:]
    assert genotype.class_head == DARTS_V2.normal[:4] + DARTS_V2.normal[5:3:-1] + DARTS_V2.normal[6:]
    swapped = (("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0), ("skip_connect", 2))
    assert genotype.reduce == DARTS_V2.reduce[:2] + swapped + (("max_pool_3x3", 1), ("skip_connect", 2))
    assert genotype.in_order() == genotype
    assert Genotype(network="resnet32").in_order() == Genotype(network="resnet32")


def edited(**changes: object) -> str:
    content = json.loads(DARTS_V2.to_json()) | changes
    return json.dumps({key: value for key, value in content.items() if value != "absent"})


PAIRS = [list(pair) for pair in DARTS_V2.normal]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^genotype: not JSON .*; allowed: "),
        ("[]", r"^genotype: \[\]; allowed: an object with the keys normal, reduce, concat$"),
        (edited(reduce="absent"), r"^genotype\.reduce: missing; allowed: "),
        (edited(concat="absent"), r"^genotype\.concat: missing; allowed: "),
        (edited(tail=[]), "^genotype: unknown key 'tail'; allowed: normal, "),
        (edited(normal=PAIRS[:7]), r"^genotype\.normal: .*; allowed: a list of 8 pairs"),
        (edited(normal="sep_conv_3x3"), "'sep_conv_3x3'; allowed: a list of 8 pairs"),
        (edited(normal=[*PAIRS[:7], ["sep_conv_3x3"]]), r"normal\[7\]: \['sep_conv_3x3'\]; allowed: a pair"),
        (edited(normal=[*PAIRS[:7], ["none", 0]]), r"normal\[7\]: primitive 'none'; allowed: max_pool_3x3"),
        (edited(normal=[*PAIRS[:7], [["none"], 0]]), r"normal\[7\]: primitive \['none'\]; allowed: "),
        (edited(reduce=[["skip_connect", 2], *PAIRS[1:]]), r"reduce\[0\]: input 2; allowed: 0 to 1$"),
        (edited(reduce=[["skip_connect", -1], *PAIRS[1:]]), r"reduce\[0\]: input -1"),
        (edited(reduce=[["skip_connect", True], *PAIRS[1:]]), r"reduce\[0\]: input True"),
        (edited(class_head=[["skip_connect", 1], *PAIRS[1:]]), r"class_head\[1\]: input 1 a second time; allowed: "),
        (edited(concat=[2, 3]), r"^genotype\.concat: \[2, 3\]; allowed: \[2, 3, 4, 5\]$"),
        (edited(concat=5), r"^genotype\.concat: 5; "),
        ('{"network": "resnet50"}', r"^genotype\.network: 'resnet50'; allowed: resnet32, frozen$"),
        ('{"network": []}', r"^genotype\.network: \[\]; allowed: "),
        ('{"network": null}', r"^genotype\.normal: "),
        ('{"network": "resnet32", "normal": []}', "^genotype: unknown key 'network'"),
    ],
)
def test_what_is_no_genotype_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Genotype.from_json(text)
    assert "\n" not in str(error.value)
