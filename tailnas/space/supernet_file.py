"""A super-network in a file: its weights (always in the plain layout) and what is needed to build it again."""

from pathlib import Path

from tailnas.errors import UserError
from tailnas.space.supernet import SuperNet
from tailnas.space.two_branch import TwoBranchSuperNet
from tailnas.space.weights import load_state, read_weights, save_weights


def save_supernet(path: Path | str, net: SuperNet | TwoBranchSuperNet) -> None:
    """Write weights and running statistics; alphas are not part of the network and have a file of their own."""
    config = {
        "kind": "supernet",
        "branches": 2 if isinstance(net, TwoBranchSuperNet) else 1,
        "channels": net.channels,
        "cells": len(net.cells),
        "reductions": list(net.reductions),
        "in_channels": net.in_channels,
        "num_classes": net.num_classes,
    }
    save_weights(path, net.state_dict(), config)


def load_supernet(path: Path | str) -> SuperNet | TwoBranchSuperNet:
    """The super-network that save_supernet wrote, in training mode on the CPU. Raises UserError naming the file."""
    state, config = read_weights(path, kind="supernet")
    net: SuperNet | TwoBranchSuperNet
    try:
        shape = (config["channels"], config["cells"], config["num_classes"], config["in_channels"])
        net = (
            TwoBranchSuperNet(*shape) if config["branches"] == 2 else SuperNet(*shape, reductions=config["reductions"])
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: the description of the super-network cannot be used: {reason}") from None
    load_state(net, state, path)
    return net
