"""What a search tells about its alphas: the numbers of each epoch, and whether they moved at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from tailnas.errors import UserError
from tailnas.space.genotype import Genotype, derive_genotype
from tailnas.space.primitives import EDGES, PRIMITIVES


class AlphaRecord:
    """The alphas of every epoch, row 0 before the first step. Stateful, so that checkpoints carry it.

    `stacked()` gives float32 (epochs + 1, 14, 8) for each component.
    """

    def __init__(self, alphas: Mapping[str, Tensor]) -> None:
        self.rows: list[dict[str, Tensor]] = []
        self.append(alphas)

    def append(self, alphas: Mapping[str, Tensor]) -> None:
        self.rows.append({name: values.detach().cpu().clone() for name, values in alphas.items()})

    def stacked(self) -> dict[str, Tensor]:
        return {name: torch.stack([row[name] for row in self.rows]) for name in self.rows[0]}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]

    def summary(self) -> dict[str, float | str]:
        """Entropy in nats of each component (mean over edges), share of edges that prefer skip_connect, mean absolute
        movement of the softmax weights since the start, and the genotype that would be derived now.
        """
        weights = {name: values.double().softmax(-1) for name, values in self.rows[-1].items()}
        first = {name: values.double().softmax(-1) for name, values in self.rows[0].items()}
        row: dict[str, float | str] = {
            f"entropy_{name}": float(torch.special.entr(values).sum(-1).mean()) for name, values in weights.items()
        }
        genotype = derive_genotype(self.rows[-1])
        primitives = [primitive for edges in genotype.components().values() for primitive, _ in edges]
        row["skip_share"] = primitives.count("skip_connect") / len(primitives)
        row["softmax_movement"] = float(torch.stack([(weights[n] - first[n]).abs().mean() for n in weights]).mean())
        row["genotype"] = json.dumps(json.loads(genotype.to_json()))
        return row


def write_alphas(path: Path, alphas: Mapping[str, Tensor], network: str | None = None) -> None:
    """Write stacked alphas (epochs + 1, 14, 8) of each component; the bytes depend on the numbers alone.

    network: the name of a hand-made network, which has no alphas, is written instead of them.
    """
    arrays: dict[str, Any] = {name: values.numpy() for name, values in alphas.items()}
    if network is not None:
        arrays = {"network": np.array(network)}
    np.savez(path, **arrays)


def read_genotype(path: Path, epoch: int | Literal["last"]) -> Genotype:
    """The genotype that alphas.npz stands for after `epoch` epochs. Raises UserError naming the file."""
    arrays = _read_arrays(path)
    if arrays.keys() != {"network"}:
        return derive_genotype(read_alphas(path, epoch))
    try:
        return Genotype(network=str(arrays["network"]))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_alphas(path: Path, epoch: int | Literal["last"]) -> dict[str, Tensor]:
    """The alphas (14, 8) of each component after `epoch` epochs, from alphas.npz. Raises UserError naming the file."""
    stacked = _read_arrays(path)
    lengths = {len(values) for values in stacked.values() if values.ndim}
    for name, values in stacked.items():
        sound = values.dtype == np.float32 and values.ndim == 3 and values.shape[1:] == (EDGES, len(PRIMITIVES))
        if not sound or not len(values) or len(lengths) > 1 or not np.isfinite(values).all():
            raise UserError(
                f"{path}: {name} is {values.dtype} {values.shape}; "
                "allowed: finite float32 numbers (epochs + 1, 14, 8), as many epochs in each component"
            )
        if epoch != "last" and epoch >= len(values) > 1:
            raise UserError(
                f"derive.epoch: {epoch}; allowed: 'last' or up to {len(values) - 1}, the last one in {path}"
            )
    try:
        derive_genotype({name: torch.from_numpy(values[-1]) for name, values in stacked.items()})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return {
        name: torch.from_numpy(values[-1 if epoch == "last" or len(values) == 1 else epoch])
        for name, values in stacked.items()
    }


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, NpzFile):
            raise ValueError("one array, not an archive of arrays")
        with file:
            return {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # damaged archives and headers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: unreadable ({reason}); allowed: alphas.npz as the search stage writes it") from None


def genotype_alphas(edges: Sequence[tuple[str, int]]) -> Tensor:
    """Alphas (14, 8) from which exactly the 8 `edges` (primitive, input) of a cell are derived: 1 there, 0 elsewhere.

    Each node's two inputs are listed together, and node i has the inputs 0..i+1.
    """
    alphas = torch.zeros(sum(range(2, 6)), len(PRIMITIVES))
    for position, (primitive, source) in enumerate(edges):
        node = position // 2
        alphas[sum(range(2, 2 + node)) + source, PRIMITIVES.index(primitive)] = 1.0
    return alphas
