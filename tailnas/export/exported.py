"""A network with its preprocessing as one graph, written as ONNX or by torch.export, and run from the file again."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailnas.export.settings import missing_packages
from tailnas.foundation.errors import UserError
from tailnas.space.network import Network

INPUT, OUTPUT = "images", "probabilities"
LARGEST_DIFFERENCE = 1e-4
"""Of a probability in the file from the network's own, beyond which an export has failed."""

BATCH = 256

Predict = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Images (N, C, H, W) of the input's type to probabilities (N, K)."""


class Exported(nn.Module):
    """Images (N, C, H, W), uint8 in 0..255 or float32 in 0..1, to class probabilities (N, K)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, input: str) -> None:
        super().__init__()
        self.network = network.eval()
        mean, std = (torch.tensor(part, dtype=torch.float64).view(1, -1, 1, 1) for part in network.normalisation)
        largest = 255 if input == "uint8" else 1
        self.register_buffer("scale", (1 / (largest * std)).float())
        self.register_buffer("shift", (-mean / std).float())
        self.temperature = network.temperature

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images.float() * self.scale + self.shift)
        return torch.softmax(logits / self.temperature, dim=1)


def as_input(pixels: NDArray[np.uint8], input: str) -> NDArray[Any]:
    """uint8 (N, C, H, W) as the exported file takes it."""
    return pixels if input == "uint8" else (pixels / np.float32(255)).astype(np.float32)


def traced(network: Network, image_size: int, input: str) -> torch.export.ExportedProgram:
    """The network with its preprocessing, for batches of any size."""
    dtype = torch.uint8 if input == "uint8" else torch.float32
    example = torch.zeros((2, network.in_channels, image_size, image_size), dtype=dtype)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), _quiet():
        return torch.export.export(Exported(network, input).eval(), (example,), dynamic_shapes={INPUT: {0: batch}})


def write_torch_export(program: torch.export.ExportedProgram, path: Path) -> None:
    """A .pt2 file for `torch.export.load`."""
    torch.export.save(program, path)


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """An .onnx file with input `images` and output `probabilities`. Raises UserError without the packages it needs."""
    if missing := missing_packages():
        raise UserError(
            f"export.formats: 'onnx' needs {missing[0]}, which is not installed; allowed: after pip install '.[export]'"
        )
    with _quiet():
        made = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT])
        assert made is not None
        made.save(path)


def run_torch_export(path: Path) -> Predict:
    """What the .pt2 file predicts."""
    module = torch.export.load(path).module()

    def predict(images: NDArray[Any]) -> NDArray[np.float32]:
        with torch.no_grad():
            result: NDArray[np.float32] = module(torch.from_numpy(images)).numpy()
        return result

    return predict


def run_onnx(path: Path) -> Predict:
    """What the .onnx file predicts, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(images: NDArray[Any]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
        return result

    return predict


FORMATS = {
    "onnx": (write_onnx, run_onnx, "model.onnx"),
    "torch_export": (write_torch_export, run_torch_export, "model.pt2"),
}
"""How each format is written and run, and its file's name."""


def compared(
    network: Network, predict: Predict, pixels: NDArray[np.uint8], input: str
) -> tuple[float, NDArray[np.float32]]:
    """The largest difference of a probability on images uint8 (N, C, H, W) between the file and the network itself, and
    the file's probabilities (N, K).
    """
    largest, found = 0.0, []
    for start in range(0, len(pixels), BATCH):
        part = pixels[start : start + BATCH]
        found.append(predict(as_input(part, input)))
        difference = float(np.abs(found[-1] - network.predict(part).numpy()).max())
        largest = max(largest, difference if np.isfinite(difference) else np.inf)
    return largest, np.concatenate(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its steps and warns of its own future."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
