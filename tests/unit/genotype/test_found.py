"""What a search found, in files: alphas of every epoch, or a genotype."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnas.foundation.errors import UserError
from tailnas.genotype.found import found_genotype, read_alphas, read_genotype, write_alphas, write_genotype
from tailnas.genotype.genotype import DARTS_V1, DARTS_V2, Genotype, derive_genotype
from tailnas.genotype.primitives import NODES, PRIMITIVES

COMPONENTS = ("normal", "reduce", "instance_head", "class_head")
RESNET = Genotype(network="resnet32")


@st.composite
def cells(draw):
    """The 8 pairs of a cell: two distinct inputs per node, in any order, one of the seven primitives on each."""
    edges = []
    for node in range(NODES):
        first, second = draw(st.permutations(range(node + 2)))[:2]
        edges += [(draw(st.sampled_from(PRIMITIVES[1:])), source) for source in (first, second)]
    return tuple(edges)


genotypes = st.builds(Genotype, cells(), cells(), st.none() | cells(), st.none() | cells())


@given(genotype=genotypes | st.sampled_from([DARTS_V1, DARTS_V2, RESNET]), epoch=st.sampled_from(["last", 1, 99]))
def test_a_chosen_genotype_is_derived_as_exactly_itself(tmp_path_factory, genotype, epoch):
    """At whichever epoch: there is only one."""
    folder = tmp_path_factory.mktemp("found")
    write_genotype(folder, genotype)
    assert found_genotype(folder, epoch) == genotype == read_genotype(folder / "genotype.json")


def random_alphas(components, epochs, seed):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal((epochs + 1, 14, 8), np.float32) for name in components}


@given(components=st.sampled_from([COMPONENTS[:2], COMPONENTS]), epochs=st.integers(1, 4), seed=st.integers(0, 999))
def test_alphas_come_back_bit_by_bit_and_each_epoch_has_its_genotype(tmp_path_factory, components, epochs, seed):
    alphas = random_alphas(components, epochs, seed)
    folder = tmp_path_factory.mktemp("found")
    write_alphas(folder, alphas)
    content = (folder / "alphas.npz").read_bytes()
    read = read_alphas(folder / "alphas.npz")
    assert list(read) == list(components) and all(np.array_equal(read[name], alphas[name]) for name in components)
    for epoch in range(1, epochs + 1):
        expected = derive_genotype({name: values[epoch] for name, values in alphas.items()})
        assert found_genotype(folder, epoch) == expected
    assert found_genotype(folder, "last") == expected
    write_alphas(folder, alphas)
    assert (folder / "alphas.npz").read_bytes() == content


def npz(path, **arrays):
    np.savez(path, **arrays)


def good():
    return {name: np.zeros((3, 14, 8), np.float32) for name in ("normal", "reduce")}


def one_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 14, 8), np.float32))
    return buffer.getvalue()


def flipped(content: bytes) -> bytes:
    return content[:400] + bytes(byte ^ 255 for byte in content[400:480]) + content[480:]


DAMAGE = {
    "missing": (lambda path: path.unlink(), "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "unreadable"),
    "text": (lambda path: path.write_text("not an archive"), "unreadable"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "unreadable"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "unreadable"),
    "flipped bits": (lambda path: path.write_bytes(flipped(path.read_bytes())), "unreadable"),
    "pickled": (lambda path: npz(path, **good() | {"normal": np.array([{"a": 1}], dtype=object)}), "unreadable"),
    "another archive": (lambda path: zipfile.ZipFile(path, "w").writestr("normal.npy", b"garbage"), r"normal is \|S7"),
    "one array": (lambda path: path.write_bytes(one_array()), "not an archive of arrays"),
    "no arrays": (lambda path: npz(path), r"alphas\.normal: missing"),
    "one component": (lambda path: npz(path, normal=good()["normal"]), r"alphas\.reduce: missing"),
    "unknown component": (lambda path: npz(path, **good(), head=good()["normal"]), "unknown component 'head'"),
    "another shape": (lambda path: npz(path, **good() | {"normal": np.zeros((3, 14, 7), np.float32)}), "14, 7"),
    "no epochs": (lambda path: npz(path, **good() | {"normal": np.zeros((0, 14, 8), np.float32)}), "0, 14, 8"),
    "one dimension": (lambda path: npz(path, **good() | {"normal": np.zeros(14, np.float32)}), r"normal is .*\(14,\)"),
    "no dimension": (lambda path: npz(path, **good() | {"normal": np.float32(1)}), r"normal is float32 \(\)"),
    "text array": (lambda path: npz(path, **good() | {"normal": np.full((3, 14, 8), "x")}), "normal is <U1"),
    "complex": (lambda path: npz(path, **good() | {"normal": np.zeros((3, 14, 8), np.complex64)}), "complex64"),
    "doubles": (lambda path: npz(path, **good() | {"normal": np.zeros((3, 14, 8))}), "float64"),
    "nan": (lambda path: npz(path, **good() | {"normal": np.full((3, 14, 8), np.nan, np.float32)}), "finite"),
    "infinite": (lambda path: npz(path, **good() | {"normal": np.full((3, 14, 8), np.inf, np.float32)}), "finite"),
    "fewer epochs": (lambda path: npz(path, **good() | {"reduce": np.zeros((2, 14, 8), np.float32)}), "as many epochs"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_alphas_are_named_in_one_line(tmp_path, kind):
    damage, message = DAMAGE[kind]
    path = tmp_path / "alphas.npz"
    npz(path, **good())
    damage(path)
    for read in (read_alphas, lambda path: found_genotype(path.parent, "last")):
        with pytest.raises(UserError, match=rf"^{path}: .*{message}") as error:
            read(path)
        assert "; allowed: " in str(error.value) and "\n" not in str(error.value)


def test_an_epoch_that_was_not_searched_is_named(tmp_path):
    npz(tmp_path / "alphas.npz", **good())
    assert found_genotype(tmp_path, 2) == found_genotype(tmp_path, "last")
    with pytest.raises(UserError, match=r"^derive\.epoch: 3; allowed: 'last' or up to 2"):
        found_genotype(tmp_path, 3)


GENOTYPES = {
    "missing": (None, "No such file"),
    "empty": (b"", r"genotype: not JSON .*"),
    "half": (DARTS_V2.to_json().encode()[:99], r"genotype: not JSON .*"),
    "no text": (b"\xff\xfe", "not UTF-8"),
    "another network": (b'{"network": "resnet50"}', r"genotype\.network: 'resnet50'"),
    "another primitive": (
        DARTS_V2.to_json().replace("sep_conv", "conv").encode(),
        r"genotype\.normal\[0\]: primitive ",
    ),
}


@pytest.mark.parametrize("kind", GENOTYPES)
def test_a_damaged_genotype_is_named_in_one_line(tmp_path, kind):
    content, message = GENOTYPES[kind]
    path = tmp_path / "genotype.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: {message}.*; allowed: ") as error:
        read_genotype(path)
    assert "\n" not in str(error.value)


def test_a_folder_with_nothing_found_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=rf"^{tmp_path}.*alphas.npz: unreadable .*; allowed: "):
        found_genotype(tmp_path, "last")
