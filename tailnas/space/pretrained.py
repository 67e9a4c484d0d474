"""The super-network that pretraining leaves and searches start from: how it is built, and its files."""

from __future__ import annotations

from typing import Any, Literal

from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet, default_reductions
from tailnas.space.two_branch import TwoBranchSuperNet

Paths = Literal["mixture", "single"]
"""What a super-network was trained on: all paths mixed, or one path per step."""
FILES: dict[Paths, str] = {"mixture": "supernet.safetensors", "single": "single_path.safetensors"}
HISTORIES: dict[Paths, str] = {"mixture": "history.csv", "single": "single_path_history.csv"}


def supernet(space: Space, num_classes: int, in_channels: int) -> SuperNet:
    """The single-branch super-network of `space`: L + 1 cells, reductions where L cells have them.

    It is as deep as a two-branch one with L backbone cells and a head cell.
    """
    reductions = default_reductions(space.cells)
    return SuperNet(space.channels, space.cells + 1, num_classes, in_channels, reductions=reductions)


def supernet_config(network: SuperNet | TwoBranchSuperNet) -> dict[str, Any]:
    """What a weights file says about a super-network."""
    return {
        "kind": "supernet",
        "branches": 2 if isinstance(network, TwoBranchSuperNet) else 1,
        "channels": network.channels,
        "cells": len(network.cells),
        "reductions": list(network.reductions),
        "in_channels": network.in_channels,
        "classes": network.num_classes,
    }
