"""Networks measured on the test set."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailnas.data.dataset import Part
from tailnas.evaluate.calibration import calibration
from tailnas.evaluate.intervals import wilson
from tailnas.evaluate.metrics import (
    confusion_counts,
    evaluate_predictions,
    interval_metrics,
    per_class_recall,
    shot_groups,
)
from tailnas.space.multiply_adds import multiply_adds
from tailnas.space.network import Network

EACH_CLASS = 100
"""Classes up to which predictions.csv holds the probability of each."""


@dataclass(frozen=True)
class Measurement:
    """metrics: what metrics.json holds. recall: (K,) of each network. confusion: int64 (K, K), rows the true class.

    probabilities: (N, K) of each network. gained, lost: int64 (K,), test images that the last network gets right and
    the first wrong, and the other way round.
    """

    metrics: dict[str, Any]
    recall: dict[str, NDArray[np.float64]]
    confusion: dict[str, NDArray[np.int64]]
    probabilities: dict[str, NDArray[np.float64]]
    gained: NDArray[np.int64]
    lost: NDArray[np.int64]


def evaluate(
    networks: Mapping[str, Network], test: Part, counts: Sequence[int], batch_size: int, bins: int
) -> Measurement:
    """Measure each of `networks` (name to network, on any device) on `test`, at temperature 1, and the last one's
    probabilities at its own temperature, too.

    counts: (K,) training images of each class, which define the shot groups. bins: of the calibration error.
    """
    metrics: dict[str, Any] = {}
    recall, confusion, probabilities, right = {}, {}, {}, []
    groups = shot_groups(counts)
    for name, network in networks.items():
        probabilities[name] = predict(network, test.images, batch_size)
        predictions = probabilities[name].argmax(axis=1)
        metrics[name] = evaluate_predictions(probabilities[name], test.labels, counts, bins)
        confusion[name] = confusion_counts(test.labels, predictions, len(test.classes))
        recall[name] = per_class_recall(confusion[name])
        right.append(predictions == test.labels)
    metrics["calibration"] = calibration(network, probabilities[name], test.labels, counts, groups, bins)
    network = next(iter(networks.values()))
    metrics |= {
        "intervals": {name: interval_metrics(matrix, counts) for name, matrix in confusion.items()},
        "groups": asdict(groups),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "multiply_adds": multiply_adds(network, network.in_channels, test.images.shape[-1]),
        "test_images": len(test.labels),
    }
    gained, lost = (
        np.bincount(test.labels[now & ~before], minlength=len(test.classes))
        for before, now in ((right[0], right[-1]), (right[-1], right[0]))
    )
    return Measurement(metrics, recall, confusion, probabilities, gained, lost)


def predict(network: Network, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float64]:
    """Probabilities (N, K) of images uint8 (N, C, H, W), at temperature 1."""
    device = network.classifier.weight.device
    parts = torch.from_numpy(images).split(batch_size)
    temperature, network.temperature = network.temperature, 1.0
    try:
        return torch.cat([network.predict(part.to(device)).cpu() for part in parts]).double().numpy()
    finally:
        network.temperature = temperature


def write_per_class(path: Path, measured: Measurement, classes: Sequence[str], counts: Sequence[int]) -> None:
    """class, name, count (training images), test_images, of each network recall_<name> and the ends of Wilson's 95 %
    interval, recall_<name>_low and _high, gained and lost (test images).
    """
    images = next(iter(measured.confusion.values())).sum(axis=1)
    named: dict[str, NDArray[Any]] = {"test_images": images}
    for name, recall in measured.recall.items():
        low, high = wilson(np.diag(measured.confusion[name]), images)
        named |= {f"recall_{name}": recall, f"recall_{name}_low": low, f"recall_{name}_high": high}
    named |= {"gained": measured.gained, "lost": measured.lost}
    columns, values = ["class", "name", "count", *named], named.values()
    rows = zip(range(len(classes)), classes, counts, *(column.tolist() for column in values), strict=True)
    _write(path, columns, rows)


def write_confusion(path: Path, measured: Measurement) -> None:
    """model, true, predicted, count: one row per network and pair of classes."""
    rows = (
        [name, true, predicted, int(count)]
        for name, matrix in measured.confusion.items()
        for (true, predicted), count in np.ndenumerate(matrix)
    )
    _write(path, ["model", "true", "predicted", "count"], rows)


def write_predictions(path: Path, measured: Measurement, test: Part, files: Sequence[str]) -> None:
    """model, image (its row in the test part), file, label, prediction, probability (of the prediction), and one column
    per class with its probability, where there are at most EACH_CLASS of them.

    files: (N,) names of the images, or none where they are no files.
    """
    classes = test.classes if len(test.classes) <= EACH_CLASS else ()

    def rows() -> Iterator[list[Any]]:
        for name, probabilities in measured.probabilities.items():
            chosen = probabilities.argmax(axis=1)
            for image, (label, best) in enumerate(zip(test.labels.tolist(), chosen.tolist(), strict=True)):
                row = probabilities[image]
                values = [f"{value:.6g}" for value in (row[best], *row[: len(classes)])]
                yield [name, image, files[image] if files else "", test.classes[label], test.classes[best], *values]

    _write(path, ["model", "image", "file", "label", "prediction", "probability", *classes], rows())


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
