import codecs
import contextlib
import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tailnas.fetch.pickled_values import Refused, pickled_dict

CONTENT = {
    "data": np.arange(24, dtype=np.uint8).reshape(2, 12),
    "labels": [0, 255, 70_000, -3, 2**40],
    "filenames": ["a.png", "é"],
    "nested": {"t": (1, 2.5, None, True, False), "e": ()},
    "raw": b"\x00\xff",
    "empty": b"",
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_and_arrays(protocol) -> None:
    found = pickled_dict(pickle.dumps(CONTENT, protocol))
    array = found.pop("data")
    assert array.dtype == np.uint8
    assert (array == CONTENT["data"]).all()
    assert found == {key: value for key, value in CONTENT.items() if key != "data"}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["<i8", ">i4", "u2", "i1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integer_arrays_and_scalars(protocol, dtype, order) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype, order=order)
    found = pickled_dict(pickle.dumps({"a": array, "s": [array[1, 2]]}, protocol))
    assert (found["a"] == array).all()
    assert found["s"] == [6]


class ArraysOnly(pickle.Unpickler):
    """Python's own reader, with nothing to call but what makes a NumPy array."""

    def find_class(self, module: str, name: str) -> object:
        assert (module, name) in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
        return super().find_class(module, name)


def test_what_python_2_wrote() -> None:
    # the instructions that cPickle of Python 2 gives a batch: SHORT_BINSTRING texts, numpy.core, array bytes as a text
    raw = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x03\x01\xfe\xfftbU\x06labelsq\x08]q\t(K\x06eu."
    )
    found = pickled_dict(raw)
    assert found["data"].tolist() == [[1, 254, 255]]
    assert found["labels"] == [6]
    loaded = ArraysOnly(io.BytesIO(raw), encoding="latin1").load()
    assert (loaded["data"] == found["data"]).all()


def test_keys_written_as_bytes() -> None:
    assert pickled_dict(pickle.dumps({b"labels": [1]}, 2)) == {"labels": [1]}


class Call:
    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call

    def __repr__(self) -> str:
        function, arguments = self.call
        return f"{function.__name__}{arguments}"


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        Call(os.system, "echo hello"),
        Call(eval, "1 + 1"),
        Call(subprocess.check_output, ["true"]),
        Call(codecs.encode, "aGVsbG8=", "rot13"),
        Call(bytes, 2**40),
        Call(np.zeros, 2**40),
        np.array([{"a": 1}], dtype=object),
        np.array([1.5]),
        np.array(["text"]),
        np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]),
        {1, 2},
        frozenset([1]),
        slice(1),
        sys.intern,
        SystemExit("no"),
    ],
    ids=repr,
)
def test_everything_else_is_refused_and_not_run(protocol, value, capfd) -> None:
    with pytest.raises(Refused):
        pickled_dict(pickle.dumps({"data": value}, protocol))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80\x02",
        b"no pickle at all",
        b"\x00" * 100,
        pickle.dumps(CONTENT, 2)[:-1],
        pickle.dumps(CONTENT, 2)[:60],
        pickle.dumps(CONTENT, 5)[:-30],
        pickle.dumps([1, 2]),
        pickle.dumps("text"),
        pickle.dumps({1: 2}),
        b"\x80\x02e.",
        b"\x80\x02h\x05.",
        b"\x80\x02(K\x01s.",
        b"\x80\x02K\x01K\x02a.",
        b"\x80\x02R.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02cos\nsystem\n}b.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02Pid\n.",
        b"\x80\x02ios\nsystem\n.",
        b"X\xff\xff\xff\xff.",
    ],
)
def test_damage_is_refused(raw) -> None:
    with pytest.raises(Refused) as caught:
        pickled_dict(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_random_damage_never_escapes() -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(pickle.dumps(CONTENT, 2), np.uint8)
    for _ in range(3000):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
        with contextlib.suppress(Refused):
            assert isinstance(pickled_dict(damaged.tobytes()), dict)
