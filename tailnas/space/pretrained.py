"""The super-network that pretraining leaves and searches start from: how it is built, and its files."""

from __future__ import annotations

from typing import Any, Literal

from tailnas.space.settings import Space
from tailnas.space.supernet import SuperNet
from tailnas.space.two_branch import TwoBranchSuperNet

Paths = Literal["mixture", "single"]
"""What a super-network was trained on: all paths mixed, or one path per step."""
FILES: dict[Paths, str] = {"mixture": "supernet.safetensors", "single": "single_path.safetensors"}
HISTORIES: dict[Paths, str] = {"mixture": "history.csv", "single": "single_path_history.csv"}


def supernet(space: Space, num_classes: int, in_channels: int, *, partial: int = 1, own_head: bool = False) -> SuperNet:
    """The single-branch super-network of `space`: L + 1 cells, reductions at a third and two thirds of them.

    It is as deep as a two-branch one with L backbone cells and a head cell, and reduces in the same places.
    """
    return SuperNet(
        space.channels,
        space.cells + 1,
        num_classes,
        in_channels,
        reductions=space.reductions,
        partial=partial,
        own_head=own_head,
    )


def two_branch_supernet(space: Space, num_classes: int, in_channels: int, *, partial: int = 1) -> TwoBranchSuperNet:
    """The two-branch super-network of `space`: L backbone cells and two heads."""
    return TwoBranchSuperNet(
        space.channels, space.cells, num_classes, in_channels, reductions=space.reductions, partial=partial
    )


def supernet_config(network: SuperNet | TwoBranchSuperNet) -> dict[str, Any]:
    """What a weights file says about a super-network."""
    further = {"partial": network.partial} if network.partial > 1 else {}
    further |= {"own_head": True} if network.own_head else {}
    return {
        "kind": "supernet",
        "branches": 2 if isinstance(network, TwoBranchSuperNet) else 1,
        "channels": network.channels,
        "cells": len(network.cells),
        "reductions": list(network.reductions),
        "in_channels": network.in_channels,
        "classes": network.num_classes,
        **further,
    }
