"""The model card of an exported network: what it is, what it was trained on, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tailnas.data.dataset import Meta
from tailnas.evaluate.intervals import wilson
from tailnas.evaluate.metrics import GROUPS, shot_groups
from tailnas.export.exported import INPUT, OUTPUT
from tailnas.foundation.errors import plain
from tailnas.space.network import Network

WIDE = 0.2
"""Half-width of a recall's interval from which on the card says that little is known."""


def model_card(
    run: str,
    network: Network,
    meta: Meta,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    file: str,
    input: str,
    difference: float,
) -> str:
    """Markdown. run: name of the export. labels (N,), probabilities (N, K): of the test images, by the file itself."""
    return "\n".join(_lines(run, network, meta, labels, probabilities, file, input, difference)) + "\n"


def _lines(
    run: str,
    network: Network,
    meta: Meta,
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    file: str,
    input: str,
    difference: float,
) -> Iterator[str]:
    counts = network.class_counts or (1,) * network.num_classes
    right = probabilities.argmax(axis=1) == labels
    groups = shot_groups(counts)
    side = network.image_size
    yield f"# {_cell(meta.name)}: {run}\n"
    yield (
        f"A classifier of {len(network.classes)} classes for images of {side} x {side} pixels, "
        f"{'grey' if network.in_channels == 1 else 'colour'}, found by neural architecture search and trained on "
        f"{sum(counts):,} images whose classes are unequally common ({max(counts):,} of the largest class, "
        f"{min(counts):,} of the smallest).\n"
    )
    yield "## Use\n"
    scale = "0 to 255, uint8" if input == "uint8" else "0 to 1, float32"
    yield f"`{file}` takes `{INPUT}` (N, {network.in_channels}, {side}, {side}), pixels {scale}, any N, and gives"
    yield (
        f"`{OUTPUT}` (N, {len(network.classes)}), float32, in the order of the table below. Normalisation and "
        "temperature are inside; resizing the whole image to the square (bilinear, antialiased) is not."
    )
    yield f"On all {len(labels):,} test images it differs from the trained network by {difference:.2g} at most.\n"
    yield "## Results on the test images\n"
    yield f"Right: {_share(int(right.sum()), len(right))} of {len(labels):,}. Intervals are Wilson's, 95 %.\n"
    bounds = {"many": "more than 100", "medium": "20 to 100", "few": "fewer than 20"}
    yield "| classes | training images | recall |"
    yield "|---|---|---|"
    for name in GROUPS:
        own = np.isin(labels, getattr(groups, name))
        size = bounds[name] if groups.rule == "counts" else "a third of the classes, by size"
        if own.any():
            yield f"| {name} | {size} | {_share(int(right[own].sum()), int(own.sum()))} |"
    yield "\n| class | training images | test images | recall | assumed frequency |"
    yield "|---|---|---|---|---|"
    for c, name in enumerate(network.classes):
        own = labels == c
        recall = _share(int(right[own].sum()), int(own.sum())) if own.any() else "not measured"
        yield f"| {_cell(name)} | {counts[c]:,} | {int(own.sum()):,} | {recall} | {network.prior[c]:.4f} |"
    yield "\n## Probabilities\n"
    calibrated = network.class_thresholds is not None
    yield (
        "They assume that classes occur with the frequencies of the table; where they do not, multiply by the true "
        f"frequency, divide by the assumed one, and scale to sum 1. Temperature: {network.temperature:.3f}"
        + (", fitted on training images by networks that had not seen them." if calibrated else ", not calibrated.")
    )
    if network.class_thresholds is not None and network.miss is not None:
        few = [name for name, t in zip(network.classes, network.class_thresholds, strict=True) if t == 0]
        shown = ", ".join(
            f"{_cell(name)} {t:.4g}" for name, t in zip(network.classes, network.class_thresholds, strict=True)
        )
        yield (
            f"The classes whose probability reaches its threshold make a set that lacks the true one with probability "
            f"{network.miss:g} at most: {shown}. "
            + (f"Nothing is promised for {', '.join(map(_cell, few))}: too few images." if few else "")
        )
    yield "\n## Limits\n"
    unsure = _unsure(network.classes, labels, right)
    yield (
        f"- Little is known of {', '.join(map(_cell, unsure))}: an interval wider than {2 * WIDE:g}."
        if unsure
        else (f"- Each class's recall is known to +-{WIDE:g} or better, on images like those of the training.")
    )
    yield "- An image of none of the classes is given to one of them all the same."
    yield "- Other cameras, places or ways to label were not tested."
    yield "- Test images are those that the study held out; nothing was chosen by them.\n"
    yield "## How it was made\n"
    yield f"Parameters: {sum(weight.numel() for weight in network.parameters()):,}. Data: kind `{_cell(meta.kind)}`."
    yield f"Genotype: `{network.genotype.to_line()}`\n"
    yield "With the `params.yaml` and `dvc.lock` that this file was made with:\n"
    yield f"```sh\ndvc repro export@{run}\n```\n"
    yield f"PyTorch {torch.__version__}."


def _share(right: int, images: int) -> str:
    low, high = wilson(right, images)
    return f"{right / images:.3f} [{low:.3f}, {high:.3f}]"


def _cell(name: str) -> str:
    """A name as Markdown's tables take it."""
    return plain(name).replace("|", "\\|").replace("`", "'")


def _unsure(classes: Sequence[str], labels: NDArray[np.int64], right: NDArray[np.bool_]) -> list[str]:
    found = []
    for c, name in enumerate(classes):
        own = labels == c
        low, high = wilson(right[own].sum(), own.sum())
        if high - low > 2 * WIDE:
            found.append(name)
    return found
