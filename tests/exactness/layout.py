"""Parameter names of tailnas's super-networks in the names of the plain reference, written out by hand."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

RULES = [
    (r"^stem\.", "backbone.stem."),
    (r"^cells\.", "backbone.cells."),
    (r"preprocess_older\.conv\.", "input_0.1."),
    (r"preprocess_older\.norm\.(?=.*#relu)", "input_0.2."),
    (r"preprocess_older\.", "input_0."),
    (r"preprocess_newer\.conv\.", "input_1.1."),
    (r"preprocess_newer\.norm\.", "input_1.2."),
    (r"edges\.(\d+)\.", r"edges.\1.operations."),
    (r"pool_3x3\.norm\.", "pool_3x3.1."),
    (r"(sep_conv_.x.)\.depthwise1\.", r"\1.1."),
    (r"(sep_conv_.x.)\.pointwise1\.", r"\1.2."),
    (r"(sep_conv_.x.)\.norm1\.", r"\1.3."),
    (r"(sep_conv_.x.)\.depthwise2\.", r"\1.5."),
    (r"(sep_conv_.x.)\.pointwise2\.", r"\1.6."),
    (r"(sep_conv_.x.)\.norm2\.", r"\1.7."),
    (r"(dil_conv_.x.)\.depthwise\.", r"\1.1."),
    (r"(dil_conv_.x.)\.pointwise\.", r"\1.2."),
    (r"(dil_conv_.x.)\.norm\.", r"\1.3."),
]


def reference_names(names: list[str]) -> dict[str, str]:
    """For each of tailnas's names the reference's; an older input that is not halved has one convolution."""
    convolved = {name.split("preprocess_older.conv.")[0] for name in names if "preprocess_older.conv." in name}
    renamed = {}
    for name in names:
        target = name + ("#relu" if name.split("preprocess_older.")[0] in convolved else "")
        for pattern, replacement in RULES:
            target = re.sub(pattern, replacement, target)
        renamed[name] = target.removesuffix("#relu")
    assert len(set(renamed.values())) == len(names)
    return renamed


def as_reference(tensors: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Some of the weights, statistics or gradients of `net` under the reference's names."""
    renamed = reference_names(list(net.state_dict()))
    return {renamed[name]: tensor for name, tensor in tensors.items()}


def copy_into_reference(net: nn.Module, reference: nn.Module) -> None:
    """The reference gets every weight and statistic of `net`; no name may be left over on either side."""
    reference.load_state_dict(as_reference(net.state_dict(), net), strict=True)
