"""What a step asks of the machine: operations dispatched, multiply-adds, bytes that operations read and write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry, shape_wrapper

aten = torch.ops.aten
NO_KERNEL = {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten._unsafe_view.default}


@dataclass(frozen=True)
class Counts:
    """Of one step. operations: all that are dispatched. kernels: those that compute, views and empty tensors left out.
    bytes_touched: inputs and outputs of every kernel, as if no cache held anything between them.
    """

    operations: int
    kernels: int
    multiply_adds: int
    bytes_touched: int


class Counter(TorchDispatchMode):
    """Counts every operation that is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.kernels = self.flops = self.bytes_touched = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.operations += 1
        if not func.is_view and func not in NO_KERNEL:
            self.kernels += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.bytes_touched += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        formula = FORMULAS.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result


def convolution_backward_flops(
    grad_out_shape: Any,
    x_shape: Any,
    w_shape: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Any,
    out_shape: Any,
) -> int:
    """As many for each wanted gradient as forward; torch's own formula ignores groups for the weights' gradient."""
    forward = conv_flop_count(x_shape, w_shape, grad_out_shape, transposed=transposed)
    return int(forward * (bool(output_mask[0]) + bool(output_mask[1])))


FORMULAS = {**flop_registry, aten.convolution_backward: shape_wrapper(convolution_backward_flops)}
"""torch's own, two for each multiply-add; elementwise operations and reductions count as none."""


def count(step: Callable[[], object]) -> Counts:
    """Counts one run of `step`."""
    with Counter() as counter:
        step()
    return Counts(counter.operations, counter.kernels, counter.flops // 2, counter.bytes_touched)
