"""A GPU that is not there: tensors that say they lie on it and are computed on the CPU, and a watch over them.

On a real GPU nothing complains where a step reads a value, which stalls the device, or where a number of the CPU takes
part in it: recorded into a CUDA graph, that number would stay what it was for ever.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils

aten = torch.ops.aten
ROOT = Path(__file__).parents[2]
GPU = torch.device("cuda", 0)
WAITING = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten.equal,
    aten._unique2,
    aten.unique_consecutive,
}
"""What waits for the device beside a copy to the CPU: a value is asked for, or the result's shape is one."""
BY_MASK = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class Watch:
    """found: `operation at file:line` of each operation that waits for the device or in which a tensor of the CPU takes
    part, while `watching`. operations: how many were watched.
    """

    def __init__(self) -> None:
        self.watching = False
        self.found: list[str] = []
        self.operations = 0

    def note(self, operation: object) -> None:
        if not self.watching:
            return
        frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(ROOT)]
        frame = [frame for frame in frames if frame.filename != __file__ and ".venv" not in frame.filename][-1]
        self.found.append(f"{operation} at {Path(frame.filename).name}:{frame.lineno}")


class Pretended(Tensor):
    """`held`: the tensor of the CPU that it is computed by."""

    held: Tensor
    watch: Watch

    @staticmethod
    def __new__(cls, real: Tensor, watch: Watch):
        made = Tensor._make_wrapper_subclass(
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype
        )
        made.held, made.watch = real, watch
        return made

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"Pretended({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs.values())))
        pretended = [tensor for tensor in given if isinstance(tensor, cls)]
        watch, operation = pretended[0].watch, func.overloadpacket
        watch.operations += watch.watching
        by_mask = operation in BY_MASK and any(tensor.dtype in (torch.bool, torch.uint8) for tensor in given[1:])
        if operation in WAITING or by_mask or len(pretended) < len(given):
            watch.note(func)
        if any(tensor.dim() for tensor in given if not isinstance(tensor, cls)) and operation is not aten.copy_:
            raise RuntimeError(f"{func}: tensors on cuda:0 and cpu, expected all to be on the same device")
        args, real = _mapped(args, cls, lambda tensor: tensor.held), args
        kwargs = {name: _mapped(value, cls, lambda tensor: tensor.held) for name, value in kwargs.items()}
        if operation is aten.copy_ and not isinstance(real[0], cls):
            return real[0].copy_(args[1])
        known = {id(tensor.held): tensor for tensor in pretended}
        return _mapped(
            func(*args, **kwargs), Tensor, lambda made: known[id(made)] if id(made) in known else cls(made, watch)
        )


def _tensors(values) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)) or type(value).__name__ == "dict_values":
            yield from _tensors(value)


def _mapped(value, kind, function):
    if isinstance(value, kind):
        return function(value)
    return type(value)(_mapped(part, kind, function) for part in value) if isinstance(value, (tuple, list)) else value


class OnTheGpu(TorchFunctionMode):
    """Has `device="cuda"` make pretended tensors, and copies to the CPU make real ones.

    What is copied from pinned memory without waiting is not noted.
    """

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch
        self._pinned: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], Pretended):
            self.watch.note("tolist")
            return args[0].detach().held.tolist()
        if func is Tensor.pin_memory:
            self._pinned.append(args[0])
            return args[0]
        moves = func in (Tensor.to, Tensor.cpu, Tensor.cuda) or (
            func is torch.as_tensor and isinstance(args[0], Tensor)
        )
        asked = [value for value in (*args, *kwargs.values()) if _is_device(value)]
        if func is Tensor.cpu:
            asked = ["cpu"]
        if not asked or not (moves or "device" in kwargs):
            return func(*args, **kwargs)
        target = torch.device(asked[0]).type
        args = tuple("cpu" if value is asked[0] else value for value in args)
        kwargs = {name: "cpu" if value is asked[0] else value for name, value in kwargs.items()}
        if moves and isinstance(args[0], Pretended) == (target == "cuda"):
            return func(*args, **kwargs)
        waits = not (kwargs.get("non_blocking") and any(args[0] is pinned for pinned in self._pinned))
        if (moves and waits) or (target == "cuda" and func in (torch.tensor, torch.as_tensor)):
            self.watch.note(func.__name__)
        if target == "cuda":
            return Pretended(func(*args, **kwargs).detach().clone(), self.watch)
        return func(args[0].detach().held.clone(), *args[1:], **kwargs) if moves else func(*args, **kwargs)


def _is_device(value: object) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value in ("cuda", "cpu"))


@contextmanager
def pretended_gpu(monkeypatch) -> Iterator[Watch]:
    """Inside, "cuda" is a device."""
    watch = Watch()
    grouped = _foreach_utils._group_tensors_by_device_and_dtype

    def by_device(tensors, *rest, **more):
        groups = grouped(tensors, *rest, **more)
        on_gpu = any(isinstance(tensor, Pretended) for tensor in _tensors(tensors))
        return {(GPU if on_gpu else device, kind): group for (device, kind), group in groups.items()}

    for name in ("torch.utils._foreach_utils", "torch.optim.optimizer", "torch.nn.utils.clip_grad"):
        monkeypatch.setattr(sys.modules[name], "_group_tensors_by_device_and_dtype", by_device)
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    with OnTheGpu(watch):
        yield watch
