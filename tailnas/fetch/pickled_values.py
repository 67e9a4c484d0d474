"""Plain values and integer arrays out of a pickle, read as data: nothing in it is imported or called.

CIFAR is published as pickles. A pickle is a program; `pickled_dict` understands the few instructions of protocols 2
to 5 that build dicts, lists, tuples, texts, bytes, numbers and numpy arrays of integers, and refuses every other one.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTEGERS = {f"{kind}{width}" for kind in "iu" for width in (1, 2, 4, 8)}


class Refused(ValueError):
    """The pickle is damaged, or holds more than plain values and arrays of integers."""


@dataclass(frozen=True)
class _Name:
    """What a pickle would import."""

    module: str
    name: str


@dataclass
class _DType:
    code: str
    byte_order: str = "="

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.byte_order)  # type: ignore[arg-type]


@dataclass
class _Array:
    value: NDArray[Any] | None = None


class _Mark:
    """Lies on the stack where a run of items begins."""


def pickled_dict(raw: bytes) -> dict[str, Any]:
    """The dict that the pickle `raw` describes, its keys as texts. Raises Refused."""
    try:
        value = _Machine().run(raw)
    except Refused:
        raise
    except Exception as error:  # a damaged program fails in any way that wrong operands can
        raise Refused(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from None
    if not isinstance(value, dict):
        raise Refused(f"holds a {type(value).__name__.strip('_')}, not a dict")
    return {text(key): _finished(item) for key, item in value.items()}


def _finished(item: Any) -> Any:
    if isinstance(item, _Name | _DType | _Mark) or (isinstance(item, _Array) and item.value is None):
        raise Refused(f"holds {_described(item)}, which is neither a plain value nor an array of integers")
    return item.value if isinstance(item, _Array) else item


def text(value: Any) -> str:
    """A text that Python 2 may have written as bytes. Raises Refused for other values."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise Refused(f"{value!r:.60} where a text is expected")
    return value


class _Machine:
    """Runs the instructions of one pickle on a stack of its own."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, raw: bytes) -> Any:
        for code, argument, _ in pickletools.genops(raw):
            name = code.name
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name == "STOP":
                return self.stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise Refused(f"instruction {name} is not one of plain values")
        raise Refused("damaged: no end")

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def since_mark(self) -> list[Any]:
        for depth in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[depth], _Mark):
                items = self.stack[depth + 1 :]
                del self.stack[depth:]
                return items
        raise Refused("damaged: no mark")

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise Refused("damaged: empty stack")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        self.top(dict).update(zip(items[::2], items[1::2], strict=True))

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise Refused(f"damaged: {type(self.stack[-1]).__name__} where a {kind.__name__} is expected")
        return self.stack[-1]

    def reduce(self) -> None:
        name, arguments = self.pop(2)
        if not isinstance(name, _Name) or (name.module, name.name) not in _CONSTRUCTORS:
            raise Refused(f"calls {_described(name)}, which is neither a plain value nor an array of integers")
        self.stack.append(_CONSTRUCTORS[name.module, name.name](*arguments))

    def build(self) -> None:
        (state,) = self.pop(1)
        target = self.stack[-1]
        if isinstance(target, _DType):
            target.byte_order = {"|": "="}.get(text(state[1]), text(state[1]))
        elif isinstance(target, _Array):
            _, shape, dtype, fortran, raw = state
            target.value = _filled(raw, dtype, shape, "F" if fortran else "C")
        else:
            raise Refused(f"sets the state of {_described(target)}")


def _described(value: Any) -> str:
    return f"{value.module}.{value.name}" if isinstance(value, _Name) else f"a {type(value).__name__}"


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _filled(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or not isinstance(raw, str | bytes | bytearray):
        raise Refused("holds an array of objects")
    sizes = tuple(shape)
    return np.frombuffer(_bytes(raw), dtype.numpy()).reshape(sizes, order="F" if order == "F" else "C")


def _dtype(code: Any, *_: Any) -> _DType:
    if text(code) not in INTEGERS:
        raise Refused(f"holds an array of {text(code)!r:.20}; only integers are read")
    return _DType(text(code))


def _scalar(dtype: Any, raw: Any) -> int:
    return int(_filled(raw, dtype, (), "C"))


def _array_from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_filled(raw, dtype, shape, text(order)))


def _encoded(value: Any, encoding: Any) -> bytes:
    if text(encoding) not in ("latin1", "latin-1"):
        raise Refused(f"encodes as {text(encoding)!r:.20}")
    return text(value).encode("latin-1")


_CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): lambda: b"",
    ("builtins", "bytes"): lambda: b"",
}
for _core in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS[f"{_core}.multiarray", "_reconstruct"] = lambda kind, shape, code: _Array()
    _CONSTRUCTORS[f"{_core}.multiarray", "scalar"] = _scalar
    _CONSTRUCTORS[f"{_core}.numeric", "_frombuffer"] = _array_from_buffer

_LITERALS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark().clear(),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop(3))),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.stack.append(_Name(*name.split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.stack.append(_Name(*map(text, machine.pop(2)))),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
