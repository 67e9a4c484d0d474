"""Data sets small enough to carry: every class as sheets of losslessly compressed pictures, and back.

    python -m benchmarks.photographs pack data/raw/cifar10 carried/cifar10 --imbalance-factor 100
    python -m benchmarks.photographs unpack carried/cifar10 data/raw/cifar10

The first folder of `pack` is what the fetch stage wrote. With an imbalance factor only the training images of a
long-tailed split are packed (profile exp, classes in the given order); the test part is always whole. CIFAR-10 at
factor 100 takes 38 MB instead of 69.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailnas.data.dataset import Dataset, Part, load_meta, load_test, load_train, save
from tailnas.foundation.errors import UserError
from tailnas.split.long_tail import long_tailed_split

PER_SHEET = 400
"""Images below each other: 400 of 40 pixels still fit the largest picture that WebP can hold."""
TALLEST = 16383
DESCRIPTION = "sheets.json"


def pack(source: Path, target: Path, imbalance_factor: float | None, seed: int) -> dict[str, int]:
    """Write `target` from the folder `source`; returns images of each part. Colour images of up to 40 pixels."""
    meta, train, test = load_meta(source), load_train(source), load_test(source)
    if meta.channels != 3 or meta.image_size * PER_SHEET > TALLEST:
        raise UserError(
            f"{source}: {meta.image_size} pixels, {meta.channels} channels; "
            f"allowed: up to {TALLEST // PER_SHEET} pixels, 3 channels"
        )
    if imbalance_factor is not None:
        split = long_tailed_split(
            train.labels, len(train.classes), imbalance_factor, "exp", "given", None, seed, train.classes
        )
        rows = np.sort(split.indices)
        train = Part(train.images[rows], train.labels[rows], train.classes)
    target.mkdir(parents=True, exist_ok=True)
    sheets = {name: _write_sheets(target, name, part) for name, part in (("train", train), ("test", test))}
    description = {"name": meta.name, "kind": meta.kind, "classes": meta.classes, "side": meta.image_size, **sheets}
    (target / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"train": len(train.labels), "test": len(test.labels)}


def unpack(source: Path) -> Dataset:
    """The data set that `pack` wrote, its images sorted by class. Raises UserError naming what is wrong."""
    try:
        description = json.loads((source / DESCRIPTION).read_text(encoding="utf-8"))
        side, classes = int(description["side"]), tuple(map(str, description["classes"]))
        parts = [_read_sheets(source, name, description[name], side, len(classes)) for name in ("train", "test")]
        name, kind = str(description["name"]), str(description["kind"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: {type(error).__name__}: {error}; allowed: what `pack` wrote") from None
    (train, train_labels), (test, test_labels) = parts
    return Dataset(train, train_labels, test, test_labels, classes, name, kind)


def _write_sheets(folder: Path, name: str, part: Part) -> list[list[int]]:
    """Images of each sheet of each class."""
    sizes = []
    for label in range(len(part.classes)):
        images = part.images[part.labels == label]
        sheets = np.split(images, range(PER_SHEET, len(images), PER_SHEET))
        for index, sheet in enumerate(sheets):
            column = sheet.transpose(0, 2, 3, 1).reshape(-1, sheet.shape[3], 3)
            file = folder / _file(name, label, index)
            Image.fromarray(column).save(file, lossless=True, quality=100, method=4)
        sizes.append([len(sheet) for sheet in sheets])
    return sizes


def _read_sheets(
    folder: Path, name: str, sizes: list[list[int]], side: int, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if len(sizes) != classes:
        raise ValueError(f"{name}: sheets of {len(sizes)} classes, not of {classes}")
    images, labels = [], []
    for label, of_class in enumerate(sizes):
        for index, count in enumerate(of_class):
            with Image.open(folder / _file(name, label, index), formats=["WEBP"]) as picture:
                if picture.size != (side, side * count):
                    raise ValueError(f"{_file(name, label, index)}: {picture.size} pixels, not {side, side * count}")
                column = np.asarray(picture.convert("RGB"))
            images.append(column.reshape(count, side, side, 3).transpose(0, 3, 1, 2))
            labels.append(np.full(count, label, dtype=np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


def _file(name: str, label: int, index: int) -> str:
    return f"{name}-{label}-{index}.webp"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands: Any = parser.add_subparsers(dest="command", required=True)
    packing, unpacking = commands.add_parser("pack"), commands.add_parser("unpack")
    for command in (packing, unpacking):
        command.add_argument("source", type=Path)
        command.add_argument("target", type=Path)
    packing.add_argument("--imbalance-factor", type=float)
    packing.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        if args.command == "pack":
            images = pack(args.source, args.target, args.imbalance_factor, args.seed)
            size = sum(file.stat().st_size for file in args.target.iterdir())
            print(f"{args.target}: {images['train']:,} + {images['test']:,} images, {size / 1e6:.1f} MB")
        else:
            save(unpack(args.source), args.target)
    except UserError as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
