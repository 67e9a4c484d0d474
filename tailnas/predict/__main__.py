"""Classify image files of any size and mode with a trained model.

Prints the most probable classes of each file. Files that are no whole images are named at the end, and the exit status
is then 1.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailnas.fetch.class_folders import files_below
from tailnas.foundation.errors import UserError
from tailnas.foundation.stage import main
from tailnas.predict.classifier import Classifier, load_model
from tailnas.space.device import prepare


def image_files(paths: list[Path]) -> list[Path]:
    """`paths`, each folder replaced by all files below it, sorted. Raises UserError for what is not there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(files_below(path, str(path)), key=os.fspath)
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder; allowed: image files, or folders of them")
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no files; allowed: image files, or folders of them")
    return files


def line(file: Path, probabilities: NDArray[np.float64], classes: tuple[str, ...], top: int) -> str:
    """A file and its `top` most probable classes."""
    best = np.argsort(-probabilities, kind="stable")[:top]
    return f"{file}  " + "  ".join(f"{classes[k]} {probabilities[k]:.3f}" for k in best)


def classify(model: Classifier, files: list[Path], top: int, table: Path | None) -> int:
    """Print each prediction and write them to `table`; returns the number of files that are no whole images.

    Columns of the table: file, prediction, probability, problem, and one for each class.
    """
    broken = []

    def rows() -> Iterator[list[str]]:
        for file, (probabilities, problem) in zip(files, model.predictions(files), strict=True):
            if problem:
                broken.append(f"{file}: {problem}")
                yield [str(file), "", "", problem, *[""] * len(model.classes)]
                continue
            print(line(file, probabilities, model.classes, top))
            best = int(probabilities.argmax())
            numbers = [f"{value:.6g}" for value in (probabilities[best], *probabilities)]
            yield [str(file), model.classes[best], numbers[0], "", *numbers[1:]]

    if table is None:
        for _ in rows():
            pass
    else:
        temporary = table.with_name(f".{table.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(["file", "prediction", "probability", "problem", *model.classes])
                writer.writerows(rows())
            temporary.replace(table)
        finally:
            temporary.unlink(missing_ok=True)
    for reason in broken:
        print(reason, file=sys.stderr)
    return len(broken)


def run() -> None:
    parser = argparse.ArgumentParser(prog="python -m tailnas.predict", description=__doc__)
    parser.add_argument("model", type=Path, help="model.safetensors of a retrain or adapt stage")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders, whose files count at any depth")
    parser.add_argument("--top", type=int, default=1, help="classes to print for each file (1)")
    parser.add_argument("--csv", type=Path, help="write all probabilities to this file as well")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there is one"
    )
    args = parser.parse_args()
    if args.top < 1:
        raise UserError(f"--top: {args.top}; allowed: 1 or more")
    model, files = load_model(args.model), image_files(args.images)
    device = prepare(args.device, os.cpu_count() or 1)
    if broken := classify(model.to(device), files, args.top, args.csv):
        raise UserError(f"{broken} of {len(files)} files are no whole images; allowed: images that Pillow reads")


if __name__ == "__main__":
    main(run)
