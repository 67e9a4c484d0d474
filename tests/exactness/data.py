"""Random images, alphas and networks in float64; alphas are drawn large, so that no mixture is nearly uniform."""

import pytest
import torch
from torch import Tensor

from benchmarks.plain_darts import SearchNetwork, TwoBranchNetwork
from tailnas.space.backends.choose import BACKENDS
from tailnas.space.supernet import SuperNet
from tailnas.space.two_branch import TwoBranchSuperNet

from .layout import copy_into_reference

CLASSES = 5
SINGLE = ("normal", "reduce")
HEADS = (*SINGLE, "instance_head", "class_head")

devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
        ),
    ],
)
"""Where tailnas computes; the reference stays on the CPU."""

backends = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "cpu"])

SIZES = {
    "one normal cell": {"channels": 4, "cells": 1, "reductions": ()},
    "one reduction cell": {"channels": 4, "cells": 1, "reductions": (0,)},
    "two reductions in a row, odd width, grey": {"channels": 3, "cells": 3, "in_channels": 1},
    "five cells": {"channels": 4, "cells": 5},
}
LARGER_SIZES = {"eight cells, wider": {"channels": 8, "cells": 8}}
TWO_BRANCH_SIZES = {
    "heads after a reduction, logits": ({"channels": 4, "cells": 3}, "logits"),
    "heads after a normal cell, probabilities": ({"channels": 3, "cells": 4, "in_channels": 1}, "probabilities"),
}
LARGER_TWO_BRANCH_SIZES = {
    "heads after a reduction, probabilities": ({"channels": 6, "cells": 3}, "probabilities"),
    "seven cells, logits": ({"channels": 6, "cells": 7}, "logits"),
}


def quick_and_slow(quick, slow):
    """Parameters named by their keys; the second lot is left to the slow tests."""
    return [pytest.param(*values, id=name) for name, values in quick.items()] + [
        pytest.param(*values, id=name, marks=pytest.mark.slow) for name, values in slow.items()
    ]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batch(seed: int, count: int = 4, sides: tuple[int, int] = (12, 8), in_channels: int = 3, **_: object):
    draw = generator(seed)
    images = torch.randn(count, in_channels, *sides, generator=draw, dtype=torch.float64)
    return images, torch.randint(CLASSES, (count,), generator=draw)


def random_alphas(names, seed: int) -> dict[str, Tensor]:
    draw = generator(seed)
    return {name: torch.randn(14, 8, generator=draw, dtype=torch.float64).requires_grad_() for name in names}


def drawn(build, size, seed: int):
    """A network in float64 whose running statistics and affine weights are not the initial ones either."""
    draw = generator(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(
            size["channels"], size["cells"], CLASSES, **{k: size[k] for k in size if k not in ("channels", "cells")}
        )
    net = net.double()
    for name, tensor in net.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(generator=draw)
        elif name.endswith("running_var") or name == "stem.1.weight":
            tensor.uniform_(0.5, 2, generator=draw)
        elif name in ("stem.1.bias", "bias"):
            tensor.normal_(0, 0.1, generator=draw)
    return net


def moved(tensors, device: str):
    """Tensors, or named alphas ready to be differentiated, on another device."""
    if isinstance(tensors, dict):
        return {name: alpha.detach().clone().to(device).requires_grad_() for name, alpha in tensors.items()}
    return tuple(tensor.to(device) for tensor in tensors)


def single_pair(size, backend: str, seed: int = 0) -> tuple[SuperNet, SearchNetwork]:
    """A super-network of tailnas and the reference with the same weights."""
    net = drawn(SuperNet, {**size, "backend": backend}, seed)
    reference = SearchNetwork(num_classes=CLASSES, **size).double()
    copy_into_reference(net, reference)
    return net, reference


def two_branch_pair(size, backend: str, seed: int = 0) -> tuple[TwoBranchSuperNet, TwoBranchNetwork]:
    net = drawn(TwoBranchSuperNet, {**size, "backend": backend}, seed)
    reference = TwoBranchNetwork(num_classes=CLASSES, **size).double()
    copy_into_reference(net, reference)
    return net, reference
