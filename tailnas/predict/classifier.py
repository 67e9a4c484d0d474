"""A model file with all that it takes to use it on image files of any size and mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm import tqdm

from tailnas.calibration.conformal import prediction_sets
from tailnas.calibration.priors import estimated_prior, under_prior
from tailnas.fetch.class_folders import NAMED_AT_MOST
from tailnas.fetch.image_file import Unreadable, read_image
from tailnas.foundation.errors import UserError
from tailnas.space.network import Network
from tailnas.space.network import load_model as load_network

BATCH = 256


class Classifier:
    """What `load_model` returns.

    network: in eval mode. classes: the K names. image_size: side in pixels of the images that it was trained on.
    class_counts: its training images of each class. prior: the class frequencies (K,) that its probabilities assume.
    thresholds: the probabilities from which on a class belongs to an image's set, (K,), and `miss`, the probability
    with which a set lacks the true class; None where it was not calibrated.
    """

    def __init__(self, network: Network, image_size: int) -> None:
        self.network = network.eval()
        self.classes = network.classes
        self.image_size = image_size
        self.channels = network.in_channels
        self.class_counts = network.class_counts
        self.prior = np.asarray(network.prior)
        self.thresholds = None if network.class_thresholds is None else np.asarray(network.class_thresholds)
        self.miss = network.miss

    def to(self, device: torch.device | str) -> Classifier:
        """Itself, with the network on `device`."""
        self.network.to(device)
        return self

    def predict(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Class probabilities (N, K), on the CPU, of images uint8 (N, channels, image_size, image_size).

        Raises ValueError for images of another type or shape.
        """
        device = self.network.classifier.weight.device
        parts = torch.as_tensor(images).split(BATCH)
        return torch.cat([self.network.predict(part.to(device)).cpu() for part in parts])

    def under_prior(self, probabilities: ArrayLike, prior: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (N, K) of its own where classes occur with frequencies `prior` (K,), of any scale."""
        return under_prior(probabilities, self.prior, prior)

    def estimated_prior(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Class frequencies (K,) among the images of these probabilities (N, K), as the likeliest ones."""
        return estimated_prior(probabilities, self.prior)

    def sets(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Whether each class belongs to the set of each image, (N, K), from its own probabilities (N, K).

        Raises UserError where the model was not calibrated.
        """
        if self.thresholds is None:
            raise UserError("model: it has no sets of classes; allowed: one of a study with calibrate.networks 1 or 2")
        return prediction_sets(probabilities, self.thresholds)

    def read(self, file: Path | str) -> NDArray[np.uint8]:
        """The pixels of an image file as in training: uint8 (channels, image_size, image_size). Raises Unreadable."""
        pixels = read_image(Path(file), self.image_size, self.channels)
        return np.broadcast_to(pixels, (self.channels, self.image_size, self.image_size))

    def predict_files(self, files: Sequence[Path | str]) -> NDArray[np.float64]:
        """Class probabilities (N, K) of image files of any size and mode, resized to squares as in training.

        Raises UserError naming the files that are no whole images.
        """
        if not files:
            return np.empty((0, len(self.classes)))
        rows, unreadable = zip(*self.predictions(files), strict=True)
        if wrong := [f"{str(file)!r} ({reason})" for file, reason in zip(files, unreadable, strict=True) if reason]:
            more = len(wrong) - NAMED_AT_MOST
            raise UserError(
                f"{len(wrong)} of {len(files)} files are no whole images: {', '.join(wrong[:NAMED_AT_MOST])}"
                f"{f' and {more} more' if more > 0 else ''}; allowed: images that Pillow reads"
            )
        return np.stack(rows)

    def predictions(self, files: Sequence[Path | str]) -> Iterable[tuple[NDArray[np.float64], str]]:
        """For each file its probabilities (K,) and "", or NaN and why it is unreadable; read a batch at a time."""
        for start in tqdm(range(0, len(files), BATCH), unit=f"x{BATCH} files", leave=False, disable=None):
            batch = files[start : start + BATCH]
            images, reasons = [], []
            for file in batch:
                try:
                    images.append(self.read(file))
                    reasons.append("")
                except Unreadable as error:
                    reasons.append(str(error))
            rows = iter(self.predict(np.stack(images)).double().numpy() if images else ())
            for reason in reasons:
                yield (np.full(len(self.classes), np.nan) if reason else next(rows)), reason


def load_model(path: Path | str) -> Classifier:
    """The classifier in a file that the retrain, adapt or calibrate stage wrote, on the CPU.

    Raises UserError naming the file where it is missing, damaged, or without the size of its images.
    """
    network = load_network(path)
    if network.image_size is None:
        raise UserError(f"{path}: does not know the size of its images; allowed: what the retrain stage writes")
    return Classifier(network, network.image_size)
