"""Every file of a folder of images: its class and part, its size and mode, or why it cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tailnas.fetch.class_folders import files_below, subfolders
from tailnas.fetch.file_set import PARTS
from tailnas.fetch.image_file import Unreadable, opened, plain, upright
from tailnas.foundation.errors import UserError

SIDE = 16
"""Pixels of the side of the picture by which near duplicates are told."""


def part_folders(root: Path) -> dict[str, Path]:
    """`{"train": ..., "test": ...}` where the folders in `root` are parts of a data set, else `{"": root}`.

    They are where all are called so and hold folders themselves.
    """
    folders = subfolders(root, str(root))
    parts = {PARTS[folder.name.lower()]: folder for folder in folders if folder.name.lower() in PARTS}
    whole = "train" in parts and len(parts) == len(folders) and all(map(_holds_folders, parts.values()))
    return parts if whole else {"": root}


def _holds_folders(folder: Path) -> bool:
    return bool(subfolders(folder, str(folder)))


def listed_files(root: Path) -> pd.DataFrame:
    """Rows `file` (below root), `part` (train, val, test, or "" where there are none) and `class`, sorted by file.

    Raises UserError for a folder that is missing, unreadable, or without any class.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "no such folder"
        raise UserError(f"{root}: {found}; allowed: a folder with one directory per class")
    rows = [
        (str(file.relative_to(root)), part, folder.name)
        for part, below in part_folders(root).items()
        for folder in subfolders(below, str(root))
        for file in files_below(folder, str(root))
    ]
    if not rows:
        raise UserError(f"{root}: no files in directories; allowed: a folder with one directory per class")
    return pd.DataFrame(sorted(rows), columns=["file", "part", "class"])


def read_files(root: Path, listing: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """`listing` with `width`, `height`, `mode`, `digest` (of the pixels) and `problem` (why unreadable, else "").

    Beside it the fingerprints, float32 (N, SIDE * SIDE): grey pictures of mean 0 and norm 1, or all 0 where the image
    is unreadable or of one grey.
    """
    rows, prints = [], np.zeros((len(listing), SIDE * SIDE), np.float32)
    files: Iterable[str] = tqdm(listing["file"], desc="reading", unit=" images", leave=False, disable=None)
    for index, name in enumerate(files):
        try:
            with opened(root / name) as image:
                width, height, mode = image.width, image.height, image.mode
                image.load()
                grey = plain(upright(image), 1)
                digest = pixel_digest(image)
        except Unreadable as error:
            rows.append((0, 0, "", "", str(error)))
            continue
        prints[index] = fingerprint(grey)
        rows.append((width, height, mode, digest, ""))
    columns = ["width", "height", "mode", "digest", "problem"]
    return pd.concat([listing, pd.DataFrame(rows, columns=columns)], axis=1), prints


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of size, mode and pixels: equal for copies in other lossless formats or with other metadata."""
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    return hashlib.sha256(f"{image.size} {image.mode} ".encode() + image.tobytes()).hexdigest()


def fingerprint(grey: Image.Image) -> NDArray[np.float32]:
    """(SIDE * SIDE,) the picture at SIDE x SIDE, of mean 0 and norm 1; 0 where its standard deviation is under 1."""
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
    centred = small - small.mean()
    norm = np.linalg.norm(centred)
    return centred / norm if norm >= SIDE else np.zeros_like(centred)
