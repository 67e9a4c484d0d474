"""Which inputs of a hand-written autograd function a backward pass needs gradients for.

`ctx.needs_input_grad` tells what could be asked for when the forward ran. torch.autograd.grad(loss, alphas) asks for
less: weights that require gradients get none, and computing theirs is half of a backward pass.
"""

from typing import Any

import torch


def gradients_wanted(ctx: Any) -> list[bool]:
    """One flag for each tensor input, for the backward pass that is running. Tensors come last among the inputs; for
    those that are leaves the answer is that of `ctx.needs_input_grad`.
    """
    wanted = []
    needs = ctx.needs_input_grad[-len(ctx.next_functions) :]
    for needed, (node, _) in zip(needs, ctx.next_functions, strict=True):
        wanted.append(needed and node is not None and _will_run(node))
    return wanted


def _will_run(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # a leaf: the engine does not tell
        return True
