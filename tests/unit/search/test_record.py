"""Alphas on disk and in numbers."""

import io
import math
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailnas.errors import UserError
from tailnas.search.record import AlphaRecord, genotype_alphas, read_alphas, write_alphas
from tailnas.space.genotype import DARTS_V1, DARTS_V2, derive_genotype
from tailnas.space.primitives import NODES, PRIMITIVES

COMPONENTS = ("normal", "reduce", "instance_head", "class_head")


@st.composite
def cells(draw):
    """The 8 pairs of a cell: two distinct inputs a node, in any order, one of the seven primitives on each."""
    edges = []
    for node in range(NODES):
        first, second = draw(st.permutations(range(node + 2)))[:2]
        edges += [(draw(st.sampled_from(PRIMITIVES[1:])), source) for source in (first, second)]
    return edges


def by_node(edges):
    return [frozenset(edges[i : i + 2]) for i in range(0, len(edges), 2)]


@given(normal=cells(), reduce=cells())
def test_genotype_alphas_derive_to_the_same_cell(normal, reduce):
    genotype = derive_genotype({"normal": genotype_alphas(normal), "reduce": genotype_alphas(reduce)})
    assert by_node(genotype.normal) == by_node(normal)
    assert by_node(genotype.reduce) == by_node(reduce)


@pytest.mark.parametrize("genotype", [DARTS_V1, DARTS_V2], ids=["v1", "v2"])
def test_published_genotypes_survive_the_round_trip(genotype):
    derived = derive_genotype({name: genotype_alphas(edges) for name, edges in genotype.components().items()})
    assert [by_node(edges) for edges in derived.components().values()] == [
        by_node(edges) for edges in genotype.components().values()
    ]


def random_alphas(components, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(14, 8, generator=generator) for name in components}


@given(components=st.sampled_from([COMPONENTS[:2], COMPONENTS]), epochs=st.integers(0, 4), seed=st.integers(0, 999))
def test_files_give_back_every_epoch_bit_by_bit(tmp_path_factory, components, epochs, seed):
    rows = [random_alphas(components, seed + epoch) for epoch in range(epochs + 1)]
    record = AlphaRecord(rows[0])
    for row in rows[1:]:
        record.append(row)
    path = tmp_path_factory.mktemp("record") / "alphas.npz"
    write_alphas(path, record.stacked())
    for epoch, row in enumerate(rows):
        if epoch:
            assert all(torch.equal(row[name], values) for name, values in read_alphas(path, epoch).items())
    assert all(torch.equal(rows[-1][name], values) for name, values in read_alphas(path, "last").items())
    first = path.read_bytes()
    write_alphas(path, record.stacked())
    assert path.read_bytes() == first


def test_record_keeps_a_copy():
    alphas = random_alphas(("normal", "reduce"), 0)
    record = AlphaRecord(alphas)
    alphas["normal"].add_(1)
    record.append(alphas)
    stacked = record.stacked()["normal"]
    assert stacked.shape == (2, 14, 8)
    torch.testing.assert_close(stacked[1], stacked[0] + 1)


def test_record_goes_through_its_state():
    record = AlphaRecord(random_alphas(COMPONENTS, 1))
    record.append(random_alphas(COMPONENTS, 2))
    buffer = io.BytesIO()
    torch.save(record.state_dict(), buffer)
    buffer.seek(0)
    other = AlphaRecord(random_alphas(COMPONENTS, 3))
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert all(torch.equal(values, other.stacked()[name]) for name, values in record.stacked().items())
    assert other.summary() == record.summary()


def test_summary_by_hand():
    """Uniform alphas have entropy ln 8; one alpha at infinity's doorstep has none and moves two softmax weights."""
    uniform = {name: torch.zeros(14, 8) for name in ("normal", "reduce")}
    record = AlphaRecord(uniform)
    start = record.summary()
    assert start["entropy_normal"] == pytest.approx(math.log(8))
    assert start["softmax_movement"] == 0
    decided = {name: values.clone() for name, values in uniform.items()}
    decided["normal"][:, PRIMITIVES.index("skip_connect")] = 50.0
    record.append(decided)
    end = record.summary()
    assert end["entropy_normal"] == pytest.approx(0, abs=1e-12)
    assert end["entropy_reduce"] == pytest.approx(math.log(8))
    assert end["skip_share"] == 0.5
    # normal: one weight from 1/8 to 1, seven from 1/8 to 0, mean over eight; reduce does not move
    assert end["softmax_movement"] == pytest.approx((7 / 8 + 7 / 8) / 8 / 2)
    assert '"normal"' in end["genotype"]


def npz(path, **arrays):
    np.savez(path, **arrays)


def good():
    return {name: np.zeros((3, 14, 8), np.float32) for name in ("normal", "reduce")}


DAMAGE = {
    "missing": lambda path: path.unlink(missing_ok=True),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped bits": lambda path: path.write_bytes(
        path.read_bytes()[:400] + bytes(b ^ 255 for b in path.read_bytes()[400:480]) + path.read_bytes()[480:]
    ),
    "pickled": lambda path: npz(path, normal=np.array([{"a": 1}], dtype=object), reduce=good()["reduce"]),
    "one component": lambda path: npz(path, normal=good()["normal"]),
    "unknown component": lambda path: npz(path, **good(), head=good()["normal"]),
    "no arrays": lambda path: npz(path),
    "another shape": lambda path: npz(path, normal=np.zeros((3, 14, 7), np.float32), reduce=good()["reduce"]),
    "no epochs": lambda path: npz(path, normal=np.zeros((0, 14, 8), np.float32), reduce=good()["reduce"]),
    "one dimension": lambda path: npz(path, normal=np.zeros(14, np.float32), reduce=good()["reduce"]),
    "text array": lambda path: npz(path, normal=np.full((3, 14, 8), "x"), reduce=good()["reduce"]),
    "complex": lambda path: npz(path, normal=np.zeros((3, 14, 8), np.complex64), reduce=good()["reduce"]),
    "nan": lambda path: npz(path, normal=np.full((3, 14, 8), np.nan, np.float32), reduce=good()["reduce"]),
    "infinite": lambda path: npz(path, normal=np.full((3, 14, 8), np.inf, np.float32), reduce=good()["reduce"]),
    "other lengths": lambda path: npz(path, normal=good()["normal"], reduce=np.zeros((2, 14, 8), np.float32)),
    "another archive": lambda path: zipfile.ZipFile(path, "w").writestr("normal.npy", b"garbage"),
    "an array of its own": lambda path: path.write_bytes(_npy_bytes()),
}


def _npy_bytes():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 14, 8), np.float32))
    return buffer.getvalue()


@pytest.mark.parametrize("epoch", ["last", 2])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_named_in_one_line(tmp_path, kind, epoch):
    path = tmp_path / "alphas.npz"
    npz(path, **good())
    DAMAGE[kind](path)
    with pytest.raises(UserError) as error:
        read_alphas(path, epoch)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_an_epoch_that_was_not_searched_is_named(tmp_path):
    npz(tmp_path / "alphas.npz", **good())
    assert read_alphas(tmp_path / "alphas.npz", 2)["normal"].shape == (14, 8)
    with pytest.raises(UserError, match=r"^derive.epoch: 3; allowed: 'last' or up to 2"):
        read_alphas(tmp_path / "alphas.npz", 3)
