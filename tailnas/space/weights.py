"""Weights files: safetensors with one metadata entry, a JSON text that says what the weights belong to.

One entry because safetensors writes several in random order, and files must be equal byte for byte when their content
is.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from tailnas.foundation.errors import UserError, cut
from tailnas.foundation.whole_file import write_whole

METADATA_KEY = "tailnas"


def save_weights(path: Path | str, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write tensors and their description, whole or not at all. `config["kind"]` says what it is: network, supernet."""
    path = Path(path)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = save(tensors, metadata={METADATA_KEY: json.dumps(dict(config), sort_keys=True)})
    write_whole(path, content)  # save_file would ignore the umask, and a full disk would be no OSError


def read_weights(path: Path | str, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and description of a weights file; with `kind`, files of another kind are refused.

    Raises UserError, one line naming the file, when it is missing, damaged, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; allowed: weights that an earlier stage writes")
    try:
        content = path.read_bytes()  # never memory-mapped: a file that is replaced meanwhile cannot harm the tensors
        state = load(content)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: unreadable ({error}); allowed: a safetensors file as a stage writes it") from None
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        config = json.loads(header["__metadata__"][METADATA_KEY])
    except (KeyError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or "kind" not in config:
        raise UserError(
            f"{path}: metadata without an entry {METADATA_KEY!r} that says what it is; allowed: weights of tailnas"
        )
    if kind is not None and config["kind"] != kind:
        raise UserError(f"{path}: holds a {cut(str(config['kind']))}; allowed: a {kind}")
    return state, config


def load_state(module: nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Load `state`, read from `path`, into `module`. Raises UserError as `require_state` does."""
    require_state(module, state, path)
    module.load_state_dict(dict(state))


def require_state(module: nn.Module, state: Mapping[str, Tensor], path: Path | str) -> None:
    """Raises UserError naming the first tensor of `state`, read from `path`, that has no place in `module`, the first
    that is missing, or the first of another shape or another kind of numbers.
    """
    own = module.state_dict()
    if differing := sorted(own.keys() ^ state.keys()):
        where = "missing" if differing[0] in own else "not part of this network"
        raise UserError(
            f"{path}: the tensor {differing[0]} is {where}; allowed: the tensors of the network it describes"
        )
    for key, value in state.items():
        if own[key].shape != value.shape:
            raise UserError(
                f"{path}: the tensor {key} has shape {tuple(value.shape)}; allowed: {tuple(own[key].shape)}"
            )
        if own[key].is_floating_point() != value.is_floating_point() or value.is_complex():
            raise UserError(f"{path}: the tensor {key} is {value.dtype}; allowed: {own[key].dtype}")
