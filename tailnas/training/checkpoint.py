"""Checkpoints: everything that a training run is made of, written whole or not at all."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from tailnas.foundation.whole_file import read_sealed, write_sealed


class Stateful(Protocol):
    """A network, an optimiser, a source of batches: whatever gives and takes its state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


Row = dict[str, float | int | str]


class Checkpoint:
    """The state of `parts` and the history after an epoch, in one file.

    The global generators of Python, numpy and torch (CPU and GPU) are part of it, beside the explicit ones that the
    parts carry. The file holds tensors and plain values only and is read without unpickling objects.
    """

    def __init__(self, path: Path, parts: Mapping[str, Stateful]) -> None:
        self.path = path
        self.parts = parts

    def save(self, history: list[Row]) -> None:
        """Write the state; the old file stays until the new one is whole on disk."""
        state = {
            "history": history,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "generators": _generator_states(),
        }
        content = io.BytesIO()  # torch.save turns a full disk into a RuntimeError
        torch.save(state, content)
        write_sealed(self.path, content.getbuffer())

    def load(self) -> list[Row]:
        """Restore all parts and return the history; an empty one where there is no checkpoint.

        A file that is not what was written, in a single bit (a disk error; never a kill), counts as none: the parts
        stay as they are and the run starts at its beginning.
        """
        if not self.path.exists():
            return []
        before = deepcopy({name: part.state_dict() for name, part in self.parts.items()})
        try:
            content = io.BytesIO(read_sealed(self.path))  # torch checks no checksum
            state = torch.load(content, map_location="cpu", weights_only=True)
            history: list[Row] = list(state["history"])
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            _restore_generators(state["generators"])
        except Exception as error:
            print(f"{self.path}: unreadable checkpoint ({type(error).__name__}), starting at the beginning", flush=True)
            for name, part in self.parts.items():
                part.load_state_dict(before[name])
            return []
        return history


def _generator_states() -> dict[str, Any]:
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }


def _restore_generators(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
