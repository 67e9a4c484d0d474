"""Images of the user's own: `path`/<class>/*, or `path`/train/<class>/* and `path`/test/<class>/*.

Training/ and TEST/ will do as well. Classes are sorted by name. Where there are both train/ and test/, other folders
beside them are not looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from tailnas.data.dataset import Dataset
from tailnas.data.repeated import copies, count_repeated, image_digests
from tailnas.fetch.class_folders import class_files, first, listed, require_distinct, subfolders
from tailnas.fetch.held_out import balanced_test_part
from tailnas.fetch.image_file import Unreadable, read_image
from tailnas.fetch.settings import DataSet
from tailnas.foundation.errors import UserError
from tailnas.foundation.settings import Seed


class Settings(DataSet):
    """Your own images, one directory per class, any sizes and modes."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="Folder with one directory per class, or with train/ and test/ that hold them."
    )
    test_per_class: Annotated[int, Field(ge=1)] = Field(
        description="Images of each class in the test part (of those in test/, where that exists)."
    )
    seed: Seed = Field(description="Chooses the test part, the same for every study seed.")

    local_paths: ClassVar[tuple[str, ...]] = ("path",)


def shared_images(settings: Settings, other: Settings) -> str | None:
    """The key and value by which `settings` and `other` are the same images: one folder holds the other."""
    own, theirs = (data.own_folders()["path"].resolve() for data in (settings, other))
    shared = own.is_relative_to(theirs) or theirs.is_relative_to(own)
    return f"path: {settings.path!r} holds the same images" if shared else None


def watched(settings: Settings) -> list[Path]:
    """Every file that is taken for an image. Raises UserError as `train_counts` does."""
    listing = _listing(settings)
    return [path for part in (listing.train, listing.test or {}) for files in part.values() for path in files]


PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
"""Directories, in any case, that hold classes."""


class _Listing(NamedTuple):
    """Files of each class; `test` is None where the test part is still to be taken from `train`."""

    train: dict[str, list[Path]]
    test: dict[str, list[Path]] | None


def class_names(settings: Settings) -> tuple[str, ...]:
    """Names of the class directories. Raises UserError as `train_counts` does."""
    return tuple(_listing(settings).train)


def train_counts(settings: Settings) -> list[int]:
    """Files of each class, less the test part. Raises UserError for a folder that cannot serve."""
    listing = _listing(settings)
    taken = settings.test_per_class if listing.test is None else 0
    return [len(files) - taken for files in listing.train.values()]


def load(settings: Settings, image_size: int, channels: int) -> Dataset:
    """settings: name, path, test_per_class, seed.

    The test part is a seeded choice of `test_per_class` images of each class, from test/ where that exists. Raises
    UserError naming the files that are no images, or the same image in two classes or in both parts; copies within a
    class and a part are printed.
    """
    listing = _listing(settings)
    classes = tuple(listing.train)
    train, train_labels = _flat(listing.train)
    if listing.test is None:
        tested = balanced_test_part(train_labels, len(classes), settings.test_per_class, settings.seed, "folder")
        files, labels = train[~tested], train_labels[~tested]
        test_files, test_labels = train[tested], train_labels[tested]
    else:
        files, labels = train, train_labels
        candidates, test_labels = _flat(listing.test)
        tested = balanced_test_part(test_labels, len(classes), settings.test_per_class, settings.seed, "folder")
        test_files, test_labels = candidates[tested], test_labels[tested]
    images = _read([*files, *test_files], settings, image_size, channels)
    _require_once(images, np.concatenate([labels, test_labels]), len(files), [*files, *test_files], settings)
    return Dataset(images[: len(files)], labels, images[len(files) :], test_labels, classes, settings.name, "folder")


def _require_once(
    images: NDArray[np.uint8], labels: NDArray[np.int64], train_images: int, files: list[Path], settings: Settings
) -> None:
    """Raises UserError for an image in two classes or in both parts; names copies within one."""
    key, digests = f"data: {settings.name}: path", image_digests(images)
    _, crossing = count_repeated(digests, labels, train_images)
    named = [" = ".join(repr(str(files[row])) for row in group) for group in copies(digests)]
    if crossing:
        wrong = [" = ".join(repr(str(files[row])) for row in group) for group in crossing]
        raise UserError(
            f"{key}: {len(wrong)} image(s) in two classes or in both the training and the test part: {first(wrong)}; "
            "allowed: each image in one class and one part (what differs in size or colour alone may be one image at "
            "data.image_size and data.channels)"
        )
    if named:
        print(f"{key}: warning: {len(named)} image(s) more than once in a class: {first(named)}", flush=True)


def _listing(settings: Settings) -> _Listing:
    key = f"data: {settings.name}: path"
    root = settings.own_folders()["path"]
    layout = _train_and_test(root, key)
    if layout is None:
        train, test = class_files(root, key), None
        _require_enough(train, settings, settings.test_per_class + 1, "one of them for training")
    else:
        train, test = (class_files(folder, key) for folder in layout)
        differing = sorted(set(train) ^ set(test))
        if differing:
            raise UserError(f"{key}: {root}: {listed(differing)} in one of train/ and test/ alone; allowed: in both")
        _require_enough(test, settings, settings.test_per_class, "in test/")
    require_distinct([path for files in (train, test or {}) for paths in files.values() for path in paths], key)
    return _Listing(train, test)


def _train_and_test(root: Path, key: str) -> tuple[Path, Path] | None:
    if not root.is_dir():
        return None
    parts = [(PARTS[folder.name.casefold()], folder) for folder in subfolders(root, key) if _is_part(folder, key)]
    holding = dict(parts)
    if len(holding) < len(parts):
        found = [folder.name for _, folder in parts]
        raise UserError(f"{key}: {root}: {listed(found)}; allowed: one for training and one for test")
    if not holding:
        return None  # they are classes, if they are there at all
    if holding.keys() != {"train", "test"}:
        (name,) = holding
        raise UserError(f"{key}: {root}: {name}/ holds class directories; allowed: both train/ and test/, or neither")
    return holding["train"], holding["test"]


def _is_part(folder: Path, key: str) -> bool:
    return folder.name.casefold() in PARTS and bool(subfolders(folder, key))


def _require_enough(classes: dict[str, list[Path]], settings: Settings, least: int, purpose: str) -> None:
    name = min(classes, key=lambda name: len(classes[name]))
    if len(classes[name]) < least:
        raise UserError(
            f"data: {settings.name}: test_per_class: {settings.test_per_class} needs {least} images of each class "
            f"({purpose}), but {name!r} has {len(classes[name])}; allowed: fewer, or more images"
        )


def _flat(classes: dict[str, list[Path]]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    files = np.empty(sum(map(len, classes.values())), np.object_)
    files[:] = [path for paths in classes.values() for path in paths]
    return files, np.repeat(np.arange(len(classes), dtype=np.int64), [len(paths) for paths in classes.values()])


def _read(files: list[Path], settings: Settings, image_size: int, channels: int) -> NDArray[np.uint8]:
    images = np.empty((len(files), channels, image_size, image_size), np.uint8)
    unreadable = []
    for image, path in zip(images, tqdm(files, desc=settings.name, leave=False, disable=None), strict=True):
        try:
            image[:] = read_image(path, image_size, channels)
        except Unreadable as error:
            unreadable.append(f"{str(path)!r} ({error})")
    if unreadable:
        raise UserError(
            f"data: {settings.name}: path: {len(unreadable)} of {len(files)} files are no whole images: "
            f"{first(unreadable)}; "
            "allowed: images that Pillow reads, such as PNG, JPEG, WebP, TIFF"
        )
    return images
