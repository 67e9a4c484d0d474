"""What a search found, in files: alphas of every epoch, or a genotype, which counts where there are both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from tailnas.foundation.errors import UserError
from tailnas.genotype.genotype import Genotype, derive_genotype
from tailnas.genotype.primitives import EDGES, PRIMITIVES

FOUND = "found"
"""Folder of the search stage's output that holds one of these files."""
ALPHAS_FILE = "alphas.npz"
GENOTYPE_FILE = "genotype.json"

Alphas = dict[str, NDArray[np.float32]]
"""float32 (epochs + 1, 14, 8) of each component, row 0 before the first step."""


def write_alphas(folder: Path, alphas: Mapping[str, NDArray[np.float32]]) -> None:
    """Write alphas.npz; the bytes depend on the numbers alone."""
    arrays: dict[str, Any] = dict(alphas)
    np.savez(folder / ALPHAS_FILE, **arrays)


def write_genotype(folder: Path, genotype: Genotype) -> None:
    """Write genotype.json."""
    (folder / GENOTYPE_FILE).write_text(genotype.to_json(), encoding="utf-8")


def found_genotype(folder: Path, epoch: int | Literal["last"]) -> Genotype:
    """The genotype in `folder`, or the one that the alphas there stand for after `epoch` epochs. Raises UserError."""
    if (folder / GENOTYPE_FILE).is_file():
        return read_genotype(folder / GENOTYPE_FILE)
    path = folder / ALPHAS_FILE
    alphas = read_alphas(path)
    epochs = len(next(iter(alphas.values()))) - 1
    if epoch != "last" and epoch > epochs:
        raise UserError(f"derive.epoch: {epoch}; allowed: 'last' or up to {epochs}, the last one in {path}")
    row = -1 if epoch == "last" else epoch
    return derive_genotype({name: values[row] for name, values in alphas.items()})


def read_genotype(path: Path) -> Genotype:
    """A genotype.json. Raises UserError naming the file."""
    try:
        return Genotype.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; allowed: what an earlier stage writes") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; allowed: a genotype.json as the derive stage writes it") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_alphas(path: Path) -> Alphas:
    """An alphas.npz. Raises UserError naming the file."""
    stacked = _read_arrays(path)
    lengths = {len(values) for values in stacked.values() if values.ndim}
    for name, values in stacked.items():
        sound = values.dtype == np.float32 and values.ndim == 3 and values.shape[1:] == (EDGES, len(PRIMITIVES))
        if not sound or not len(values) or len(lengths) > 1 or not np.isfinite(values).all():
            raise UserError(
                f"{path}: {name} is {values.dtype} {values.shape}; "
                "allowed: finite float32 numbers (epochs + 1, 14, 8), as many epochs in each component"
            )
    try:
        derive_genotype({name: values[-1] for name, values in stacked.items()})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return stacked


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
