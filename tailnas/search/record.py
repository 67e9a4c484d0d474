"""What a search tells about its alphas: the numbers of each epoch, and whether they moved at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tailnas.genotype.genotype import derive_genotype


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
        row: dict[str, float | str] = {
            f"entropy_{name}": float(torch.special.entr(values).sum(-1).mean()) for name, values in weights.items()
        }
        genotype = derive_genotype(self.rows[-1])
        primitives = [primitive for edges in genotype.components().values() for primitive, _ in edges]
        row["skip_share"] = primitives.count("skip_connect") / len(primitives)
        row["softmax_movement"] = softmax_movement(self.rows[0], self.rows[-1])
        row["genotype"] = genotype.to_line()
        return row


def softmax_movement(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """Mean absolute movement of the softmax weights of alphas (14, 8), the mean over components."""
    first, last = (
        {name: values.detach().double().softmax(-1) for name, values in alphas.items()} for alphas in (before, after)
    )
    return float(torch.stack([(last[name] - first[name]).abs().mean() for name in last]).mean())
